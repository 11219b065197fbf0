"""TTDM against its formula, written again in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlkd_training.losses import TTDMLoss


def unit_rows(seed: int, rows: int = 5, dim: int = 7) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_is_the_mean_squared_distance_of_each_pair() -> None:
    """Summed over the width and averaged over texts; a mean over both would be 1/dim of the paper's loss."""
    student, teacher = unit_rows(0), unit_rows(1)
    expected = sum(float(np.dot(s - t, s - t)) for s, t in zip(student, teacher, strict=True)) / len(student)
    found = TTDMLoss()(torch.tensor(student), torch.tensor(teacher))
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 0.0), (-1.0, 4.0)])
def test_its_ends(sign: float, expected: float) -> None:
    """Equal unit vectors are at 0, opposite ones at 4."""
    teacher = torch.tensor(unit_rows(2))
    assert TTDMLoss()(sign * teacher, teacher).item() == pytest.approx(expected, abs=1e-6)


def test_gradient() -> None:
    """d/ds = 2 (s - t) / B."""
    student = torch.tensor(unit_rows(3), requires_grad=True)
    teacher = torch.tensor(unit_rows(4))
    TTDMLoss()(student, teacher).backward()
    torch.testing.assert_close(student.grad, 2 * (student.detach() - teacher) / 5, rtol=1e-5, atol=1e-7)


def test_refuses_broadcasting() -> None:
    """One teacher vector against a batch would be compared with every text, silently."""
    with pytest.raises(ValueError, match=r"\(5, 7\) and the teacher's \(1, 7\)"):
        TTDMLoss()(torch.ones(5, 7), torch.ones(1, 7))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_a_broken_teacher(bad: float) -> None:
    """A NaN in the cache must be told as such, and not as a diverged student."""
    teacher = torch.ones(2, 3)
    teacher[1, 2] = bad
    with pytest.raises(ValueError, match="teacher's text embeddings hold NaN or infinity"):
        TTDMLoss()(torch.ones(2, 3), teacher)
