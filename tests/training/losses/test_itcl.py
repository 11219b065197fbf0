"""ITCL against symmetric InfoNCE, written again in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlkd_training.losses import ITCLLoss

SCALE = torch.tensor(1 / 0.07)


def unit_rows(seed: int, rows: int = 6, dim: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_way(scores: np.ndarray, allowed: np.ndarray, smoothing: float = 0.0) -> float:
    """Mean of -sum_j q_j log p_j over rows, p over the allowed candidates of each row."""
    total = 0.0
    for k, row in enumerate(scores):
        target = np.full(len(row), smoothing / len(row))
        target[k] += 1 - smoothing
        log_p = row - np.log(np.exp(row[allowed[k]]).sum())
        total -= float((target * np.where(target > 0, log_p, 0.0)).sum())
    return total / len(scores)


def reference(image: np.ndarray, text: np.ndarray, scale: float, smoothing: float = 0.0) -> float:
    scores = scale * image @ text.T
    everyone = np.ones_like(scores, dtype=bool)
    return (one_way(scores, everyone, smoothing) + one_way(scores.T, everyone, smoothing)) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_is_symmetric_infonce(smoothing: float) -> None:
    """Both directions count; only one of them would leave the other search direction untrained."""
    image, text = unit_rows(0), unit_rows(1)
    found = ITCLLoss(label_smoothing=smoothing)(torch.tensor(image), torch.tensor(text), SCALE)
    assert found.item() == pytest.approx(reference(image, text, 1 / 0.07, smoothing), rel=1e-5)


def test_equal_vectors_score_the_log_of_the_batch() -> None:
    """Closed form: every candidate alike."""
    same = torch.nn.functional.normalize(torch.ones(4, 3), dim=-1)
    assert ITCLLoss()(same, same, SCALE).item() == pytest.approx(np.log(4), rel=1e-6)


def test_another_caption_of_the_same_picture_is_no_negative() -> None:
    """Rows 0 and 1 show one picture: their cross terms leave both denominators, everything else stays."""
    image, text = unit_rows(2), unit_rows(3)
    image[1] = image[0]
    scores = image @ text.T / 0.07
    allowed = np.ones((6, 6), dtype=bool)
    allowed[0, 1] = allowed[1, 0] = False
    expected = (one_way(scores, allowed) + one_way(scores.T, allowed.T)) / 2
    ids = torch.tensor([7, 7, 1, 2, 3, 4])
    found = ITCLLoss()(torch.tensor(image), torch.tensor(text), SCALE, ids)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert found < ITCLLoss()(torch.tensor(image), torch.tensor(text), SCALE)


def test_smoothing_with_repeated_pictures_gives_the_left_out_no_target() -> None:
    """A share of the target on a candidate that was left out costs a constant of thousands that means nothing."""
    image, text = unit_rows(2), unit_rows(3)
    image[1] = image[0]
    ids = torch.tensor([7, 7, 1, 2, 3, 4])
    scores = image @ text.T / 0.07
    allowed = np.ones((6, 6), dtype=bool)
    allowed[0, 1] = allowed[1, 0] = False

    def smoothed(scores: np.ndarray) -> float:
        total = 0.0
        for k, row in enumerate(scores):
            log_p = row[allowed[k]] - np.log(np.exp(row[allowed[k]]).sum())
            target = np.full(len(log_p), 0.1 / len(log_p))
            target[np.flatnonzero(np.flatnonzero(allowed[k]) == k)] += 0.9
            total -= float((target * log_p).sum())
        return total / len(scores)

    expected = (smoothed(scores) + smoothed(scores.T)) / 2
    found = ITCLLoss(label_smoothing=0.1)(torch.tensor(image), torch.tensor(text), SCALE, ids)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_gradients_reach_both_sides_and_the_temperature() -> None:
    """The temperature is learned (Table 10: from 0.07); numeric derivatives are the reference."""
    image = torch.tensor(unit_rows(4, rows=3), requires_grad=True)
    text = torch.tensor(unit_rows(5, rows=3), requires_grad=True)
    scale = torch.tensor(5.0, requires_grad=True)
    ITCLLoss()(image, text, scale).backward()
    step = 1e-5

    def moved(by: tuple[float, float, float]) -> float:
        first, second = image.detach().numpy().copy(), text.detach().numpy().copy()
        first[0, 0] += by[0]
        second[1, 2] += by[1]
        return reference(first, second, 5.0 + by[2])

    for gradient, axis in ((image.grad[0, 0], 0), (text.grad[1, 2], 1), (scale.grad, 2)):
        up, down = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        up[axis], down[axis] = step, -step
        numeric = (moved(tuple(up)) - moved(tuple(down))) / (2 * step)
        assert gradient.item() == pytest.approx(numeric, rel=1e-3, abs=1e-6)


def test_gradients_stay_finite_with_repeated_pictures() -> None:
    """Minus infinity in a softmax must not turn into NaN on the way back, even if every row is one picture."""
    image = torch.tensor(unit_rows(6), requires_grad=True)
    ITCLLoss()(image, torch.tensor(unit_rows(7)), SCALE, torch.zeros(6, dtype=torch.long)).backward()
    assert torch.isfinite(image.grad).all()


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"Pictures have shape \(4, 3\) and texts \(5, 3\)"):
        ITCLLoss()(torch.ones(4, 3), torch.ones(5, 3), SCALE)


def test_refuses_a_batch_of_one() -> None:
    """A softmax over one candidate is 1 and its gradient 0."""
    with pytest.raises(ValueError, match="needs at least 2 pairs in a batch, got 1"):
        ITCLLoss()(torch.ones(1, 3), torch.ones(1, 3), SCALE)
