"""The proximal term against lambda ||v - v'||^2, written again as loops."""

from __future__ import annotations

import math

import pytest
import torch

from vlkd_training.losses import ProximalLoss


def rows(seed: int, batch: int = 5, dim: int = 7) -> torch.Tensor:
    return 3 * torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed))


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Squared distance of the unit vectors, summed over the width."""
    a, b = first.tolist(), second.tolist()
    long_a, long_b = (math.sqrt(sum(x * x for x in v)) for v in (a, b))
    return sum((x / long_a - y / long_b) ** 2 for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("weight", [30.0, 2.0])
def test_is_the_weighted_mean_of_the_distances(weight: float) -> None:
    """A sum over the width: lambda = 30 belongs to that norm."""
    now, before = rows(0), rows(1)
    expected = weight * sum(distance(a, b) for a, b in zip(now, before, strict=True)) / 5
    assert ProximalLoss(weight)(now, before).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 0.0), (-1.0, 120.0)])
def test_its_ends(sign: float, expected: float) -> None:
    """Where nothing moved it is 0; opposite vectors are at 4 lambda, lambda = 30 unless told otherwise."""
    before = rows(2)
    assert ProximalLoss()(sign * 5 * before, before).item() == pytest.approx(expected, abs=1e-3)


def test_a_first_visit_adds_nothing_and_changes_no_weight() -> None:
    """An empty slot is no earlier vector, whatever it holds; the other rows weigh as they did."""
    now, before = rows(3).requires_grad_(), rows(4)
    before[1], before[3] = float("nan"), 0.0
    known = torch.tensor([True, False, True, False, True])
    expected = 30 * sum(distance(now[k].detach(), before[k]) for k in (0, 2, 4)) / 5
    found = ProximalLoss()(now, before, known)
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert (now.grad[~known] == 0).all()
    assert (now.grad[known].abs().sum(dim=1) > 0).all()


def test_a_whole_first_epoch_is_zero_with_a_gradient_of_zero() -> None:
    """Every slot is empty at first; a loss without a graph would stop the training there."""
    now = rows(5).requires_grad_()
    found = ProximalLoss()(now, torch.zeros(5, 7), torch.zeros(5, dtype=torch.bool))
    found.backward()
    assert found.item() == 0
    assert (now.grad == 0).all()


def test_the_bank_is_no_parameter() -> None:
    """The gradient is the student's alone."""
    now, before = rows(6).requires_grad_(), rows(7).requires_grad_()
    ProximalLoss()(now, before).backward()
    assert now.grad.abs().sum() > 0
    assert before.grad is None


def test_order_and_sides_do_not_matter() -> None:
    now, before, order = rows(8), rows(9), torch.tensor([4, 2, 0, 1, 3])
    plain = ProximalLoss()(now, before)
    torch.testing.assert_close(ProximalLoss()(before, now), plain)
    torch.testing.assert_close(ProximalLoss()(now[order], before[order]), plain)


def test_refuses_what_would_go_wrong_silently() -> None:
    with pytest.raises(ValueError, match="0 or more, got -1"):
        ProximalLoss(-1)
    with pytest.raises(ValueError, match=r"batch have shape \(5, 7\) and the bank's \(1, 7\)"):
        ProximalLoss()(rows(0), rows(1, batch=1))
    with pytest.raises(ValueError, match=r"known must be boolean of shape \(5,\), got torch.int64"):
        ProximalLoss()(rows(0), rows(1), torch.ones(5, dtype=torch.long))
    broken = rows(1)
    broken[2, 3] = float("nan")
    with pytest.raises(ValueError, match="Slots of the memory bank hold NaN"):
        ProximalLoss()(rows(0), broken)
