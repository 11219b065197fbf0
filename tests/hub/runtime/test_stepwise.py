"""Generation step by step writes what generation in one go writes, and lets rows leave."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.generation import generate
from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.stepwise import generate_stepwise

VOCAB, BATCH = 12, 9


class HistoryDecoder:
    """Logits drawn from a generator that is seeded with the row's context and everything it has read."""

    def __init__(self, contexts: NDArray[np.int64]) -> None:
        self.read = [[context] for context in contexts.tolist()]
        self.widths: list[int] = []

    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.widths.append(len(token_ids))
        self.read = [[*row, token] for row, token in zip(self.read, token_ids.tolist(), strict=True)]
        rows = [np.random.default_rng(row).normal(size=VOCAB) for row in self.read]
        logits = np.stack(rows).astype(np.float32)
        logits[:, 3] += 0.9  # the end comes now and then
        return logits

    def reorder(self, rows: NDArray[np.int64]) -> None:
        self.read = [self.read[row] for row in rows]

    def join(self, context: NDArray[np.float32], context_mask: NDArray[np.int64]) -> None:
        self.read += [[int(row[0, 0])] for row in context]


def settings(**options: object) -> GenerationSettings:
    tokens = {"decoder_start_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}
    return GenerationSettings(**tokens, max_new_tokens=12, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_new_tokens": 3},
        {"no_repeat_ngram_size": 2},
        {"num_beams": 3},
        {"num_beams": 3, "early_stopping": True},
        {"num_beams": 2, "early_stopping": "never", "length_penalty": 0.2},
    ],
)
def test_the_same_texts(options: dict[str, object]) -> None:
    """Row by row, although rows leave the batch early; the streamed tokens are the text."""
    chosen = settings(**options)
    expected = generate(HistoryDecoder(np.arange(BATCH)), BATCH, chosen)
    assert len({len(text) for text in expected}) > 2  # else nothing would leave early
    found: dict[int, list[int]] = {}
    streamed: dict[int, list[int]] = {row: [] for row in range(BATCH)}
    for step in generate_stepwise(HistoryDecoder(np.arange(BATCH)), BATCH, chosen):
        for row, token in step.tokens.items():
            streamed[row].append(token)
        found |= {row: written.tokens for row, written in step.finished.items()}
    assert [found[row] for row in range(BATCH)] == expected
    if chosen.num_beams == 1:
        assert streamed == found


@pytest.mark.parametrize("options", [{}, {"min_new_tokens": 3}, {"no_repeat_ngram_size": 2}])
def test_texts_that_join_are_the_same(options: dict[str, object]) -> None:
    """Whenever they join, beside texts that are longer or shorter; and their rows are numbered on."""
    chosen = settings(**options)
    expected = generate(HistoryDecoder(np.arange(BATCH)), BATCH, chosen)
    decoder = HistoryDecoder(np.arange(2))
    texts = generate_stepwise(decoder, 2, chosen, with_scores=True)
    found: dict[int, list[int]] = {}
    scores: dict[int, float | None] = {}
    for at, step in enumerate(texts):
        found |= {row: written.tokens for row, written in step.finished.items()}
        scores |= {row: written.score for row, written in step.finished.items()}
        if at in (0, 1, 4):
            first = {0: 2, 1: 3, 4: 6}[at]
            texts.join([[np.full((1, 1), row, np.float32)] for row in range(first, {0: 3, 1: 6, 4: BATCH}[at])])
    assert [found[row] for row in range(BATCH)] == expected
    assert max(decoder.widths) < BATCH
    alone = {
        row: written.score
        for step in generate_stepwise(HistoryDecoder(np.arange(BATCH)), BATCH, chosen, with_scores=True)
        for row, written in step.finished.items()
    }
    assert scores == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"do_sample": True, "seed": 1}])
def test_what_depends_on_its_company_is_not_joined(options: dict[str, object]) -> None:
    """Beams are of equal length, and samples come from one source for all rows."""
    texts = generate_stepwise(HistoryDecoder(np.arange(2)), 2, settings(**options))
    assert not texts.joinable
    with pytest.raises(InvalidInputError, match="cannot"):
        texts.join([[np.zeros((1, 1), np.float32)]])


@pytest.mark.parametrize("beams", [1, 3])
def test_finished_rows_leave_the_decoder(beams: int) -> None:
    """The cache shrinks; the last step does not carry the whole batch, and rows are told when they are done."""
    decoder = HistoryDecoder(np.arange(BATCH))
    steps = list(generate_stepwise(decoder, BATCH, settings(num_beams=beams)))
    assert decoder.widths[0] == BATCH * beams and decoder.widths[-1] < BATCH * beams // 2
    assert len(steps) == len(decoder.widths)
    assert sum(bool(step.finished) for step in steps) > 2


def test_early_stopping_lets_a_row_leave_when_all_its_beams_have_ended() -> None:
    """Although one that goes on might still win."""

    def steps(row: int, early: bool) -> int:
        chosen = settings(num_beams=3, early_stopping=early, length_penalty=1.5)
        return len(list(generate_stepwise(HistoryDecoder(np.array([row])), 1, chosen)))

    counts = [(steps(row, True), steps(row, False)) for row in range(BATCH)]
    assert all(early <= late for early, late in counts) and any(early < late for early, late in counts)


@pytest.mark.parametrize("beams", [1, 3])
def test_dropped_rows_are_written_no_further(beams: int) -> None:
    """A client that left costs no more steps; the others are not disturbed."""
    chosen, dropped = settings(min_new_tokens=8, num_beams=beams), set(range(1, BATCH))
    decoder = HistoryDecoder(np.arange(BATCH))
    found: dict[int, list[int]] = {}
    for step in generate_stepwise(decoder, BATCH, chosen, dropped=dropped):
        found |= {row: written.tokens for row, written in step.finished.items()}
    assert found == {0: generate(HistoryDecoder(np.arange(1)), 1, chosen)[0]}
    assert len(decoder.widths) > 8 and set(decoder.widths[1:]) == {beams}


@pytest.mark.parametrize("beams", [1, 3])
def test_scores_are_the_mean_probability(beams: int) -> None:
    """Recomputed from the logits of the text alone."""
    chosen = settings(num_beams=beams)
    for step in generate_stepwise(HistoryDecoder(np.arange(BATCH)), BATCH, chosen, with_scores=True):
        for row, written in step.finished.items():
            decoder, log_prob = HistoryDecoder(np.array([row])), 0.0
            for previous, token in zip([2, *written.tokens], written.tokens, strict=False):
                logits = decoder.step(np.array([previous]))[0].astype(np.float64)
                log_prob += logits[token] - np.log(np.exp(logits).sum())
            assert written.score == pytest.approx(np.exp(log_prob / len(written.tokens)), rel=1e-4)
