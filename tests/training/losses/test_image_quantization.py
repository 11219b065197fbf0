"""The image quantizer's loss in closed form."""

from __future__ import annotations

import pytest
import torch

from vlkd_training.losses import ImageQuantizationLoss


def test_equation_88() -> None:
    """Directions at known angles; lengths do not count."""
    teacher = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    reconstruction = torch.tensor([[5.0, 0.0], [1.0, 1.0]])  # cosines 1 and sqrt(1/2)
    projected, prototypes = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 7.0], [0.0, 2.0]])
    found = ImageQuantizationLoss()(reconstruction, teacher, projected, prototypes)
    assert found["reconstruction"].item() == pytest.approx((0 + 1 - 0.5**0.5) / 2, rel=1e-6)
    assert found["commitment"].item() == pytest.approx((2 / 2 + 0) / 2, rel=1e-6)  # a mean over S = 2


def test_stop_gradient() -> None:
    """sg[delta(q_m)]: the codebook moves by its average and not by this loss; the teacher is frozen."""
    rows = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in range(4)]
    sum(ImageQuantizationLoss()(*rows).values()).backward()
    assert [value.grad is not None for value in rows] == [True, False, True, False]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.ones(2, 4), "Reconstructions have shape"),
        (3, torch.ones(1, 4), "Projections have shape"),
        (1, torch.full((3, 4), float("nan")), "class tokens hold NaN"),
    ],
)
def test_refuses(place: int, value: torch.Tensor, message: str) -> None:
    rows = [torch.ones(3, 4) for _ in range(4)]
    rows[place] = value
    with pytest.raises(ValueError, match=message):
        ImageQuantizationLoss()(*rows)
