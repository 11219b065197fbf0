"""Span corruption: how much is covered, what stands in its place."""

from __future__ import annotations

import numpy as np
import pytest

from vlkd_training.masking import infill_spans

MASK = 99


class Scripted:
    """Answers with numbers written beforehand, for runs that can be followed by hand."""

    def __init__(self, lengths: list[int], integers: list[int], random: float = 0.0) -> None:
        self.lengths, self.numbers, self.value = iter(lengths), iter(integers), random

    def poisson(self, _: float) -> int:
        return next(self.lengths)

    def integers(self, *_: int) -> int:
        return next(self.numbers)

    def random(self) -> float:
        return self.value


def kept(corrupted: list[int]) -> list[int]:
    return [token for token in corrupted if token != MASK]


@pytest.mark.parametrize(("ratio", "length"), [(0.15, 9), (0.15, 30), (0.5, 7), (0.9, 12)])
def test_covers_the_ratio_on_average(ratio: float, length: int) -> None:
    """Rounding down would leave nine-token captions at 11 % instead of 15 %."""
    rng = np.random.default_rng(0)
    tokens = list(range(length))
    covered = [length - len(kept(infill_spans(tokens, MASK, rng, ratio))) for _ in range(4000)]
    assert np.mean(covered) / length == pytest.approx(ratio, abs=0.012)


def test_one_token_is_always_covered() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert len(kept(infill_spans([5, 6], MASK, rng, 0.01))) == 1


def test_order_of_the_kept_tokens_stays() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        left = kept(infill_spans(list(range(20)), MASK, rng, 0.4))
        assert left == sorted(left)


def test_a_span_becomes_one_mask() -> None:
    """BART hides the length of the span: three words, one mask."""
    rng = Scripted(lengths=[3], integers=[2])
    assert infill_spans(list(range(10)), MASK, rng, 0.3) == [0, 1, MASK, 5, 6, 7, 8, 9]  # type: ignore[arg-type]


def test_a_span_of_length_zero_inserts_a_mask() -> None:
    rng = Scripted(lengths=[0, 3], integers=[10, 0])
    assert infill_spans(list(range(10)), MASK, rng, 0.3) == [MASK, *range(3, 10), MASK]  # type: ignore[arg-type]


def test_a_span_stops_at_covered_tokens_and_at_the_end() -> None:
    """Spans never overlap, so the budget is met exactly."""
    rng = Scripted(lengths=[2, 3, 5], integers=[4, 3, 6])
    # covers 4-5; then 3 alone, stopped by 4; then, of the free 0 1 2 6 7 8 9, position 9, stopped by the end; one more
    rng.lengths = iter([2, 3, 5, 1])
    rng.numbers = iter([4, 3, 6, 0])
    found = infill_spans(list(range(10)), MASK, rng, 0.5)  # type: ignore[arg-type]
    assert found == [MASK, 1, 2, MASK, MASK, 6, 7, 8, MASK]


def test_ratio_one_covers_everything() -> None:
    rng = np.random.default_rng(3)
    for length in (1, 2, 9, 40):
        found = infill_spans(list(range(length)), MASK, rng, 1.0)
        assert set(found) == {MASK}
    assert infill_spans([1, 2, 3], MASK, Scripted([9], [0]), 1.0) == [MASK]  # type: ignore[arg-type]


def test_ends_even_if_every_span_has_length_zero() -> None:
    """Poisson(0) is always 0: after as many masks as tokens, real spans are forced."""
    found = infill_spans([1, 2, 3], MASK, np.random.default_rng(0), 0.5, poisson_lambda=0.0)
    assert len(kept(found)) in (1, 2)


def test_same_generator_same_result() -> None:
    tokens = list(range(25))
    first = [infill_spans(tokens, MASK, np.random.default_rng(7)) for _ in range(2)]
    assert first[0] == first[1]
    many = {tuple(infill_spans(tokens, MASK, np.random.default_rng(seed))) for seed in range(20)}
    assert len(many) > 10


def test_span_lengths_are_poisson() -> None:
    """Mean tokens per mask, inserted masks included, is close to lambda where the budget does not cut spans."""
    rng = np.random.default_rng(5)
    masks = covered = 0
    for _ in range(300):
        found = infill_spans(list(range(1000)), MASK, rng, 0.15)
        masks += found.count(MASK)
        covered += 1000 - len(kept(found))
    assert 2.5 < covered / masks < 3.0  # overlaps and the last cut shorten spans a little


def test_refuses_an_empty_text() -> None:
    with pytest.raises(ValueError, match="Cannot corrupt an empty text"):
        infill_spans([], MASK, np.random.default_rng(0))


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01])
def test_refuses_a_ratio_outside(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"mask_ratio must be in \(0, 1\], got"):
        infill_spans([1, 2], MASK, np.random.default_rng(0), ratio)
