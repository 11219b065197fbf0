"""The regression of the class token against equation (57), with the norm of equation (1)."""

from __future__ import annotations

import pytest
import torch

from vlkd_training.losses import ClsRegressionLoss


def rows(seed: int, batch: int = 5, width: int = 7) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


def test_is_half_of_each_mean_squared_error() -> None:
    """Equation (1) gives the norm a mean over the width; a sum would weigh the loss by the width against the rest."""
    image, text, teacher = rows(0), rows(1), rows(2)
    found = ClsRegressionLoss()(image, text, teacher)
    assert set(found) == {"kd_image", "kd_text"}
    for part, values in (("kd_image", image), ("kd_text", text)):
        expected = sum(
            (float(value) - float(target)) ** 2 / 7
            for row, wanted in zip(values, teacher, strict=True)
            for value, target in zip(row, wanted, strict=True)
        )
        assert found[part].item() == pytest.approx(0.5 * expected / 5, rel=1e-5)


def test_closed_form() -> None:
    """Off by c everywhere costs c^2 / 2, whatever the width; equal costs nothing."""
    teacher = rows(3)
    found = ClsRegressionLoss()(teacher.clone(), teacher + 3.0, teacher)
    assert found["kd_image"].item() == 0
    assert found["kd_text"].item() == pytest.approx(4.5, rel=1e-5)


def test_gradient() -> None:
    """d/dh = (h - t) / (B D) for the student, and nothing for the teacher."""
    image, teacher = rows(4).requires_grad_(), rows(5).requires_grad_()
    found = ClsRegressionLoss()(image, rows(6).requires_grad_(), teacher)
    sum(found.values()).backward()
    torch.testing.assert_close(image.grad, (image.detach() - teacher.detach()) / 35)
    assert teacher.grad is None


def test_picture_and_caption_count_alike() -> None:
    """Changed places change the names of the parts and not their sum, and the order of the batch changes nothing."""
    image, text, teacher, order = rows(7), rows(8), rows(9), torch.tensor([4, 2, 0, 1, 3])
    one, other = ClsRegressionLoss()(image, text, teacher), ClsRegressionLoss()(text, image, teacher)
    torch.testing.assert_close(one["kd_image"], other["kd_text"])
    torch.testing.assert_close(one["kd_text"], other["kd_image"])
    torch.testing.assert_close(ClsRegressionLoss()(image[order], text[order], teacher[order]), one)


def test_refuses_broadcasting() -> None:
    """One teacher token against a batch would be compared with every picture, silently."""
    with pytest.raises(ValueError, match=r"Picture values have shape \(5, 7\) and the teacher's class tokens \(1, 7\)"):
        ClsRegressionLoss()(rows(0), rows(1), rows(2, batch=1))
    with pytest.raises(ValueError, match=r"Caption values have shape \(5, 6\)"):
        ClsRegressionLoss()(rows(0), rows(1, width=6), rows(2))


def test_refuses_a_broken_teacher() -> None:
    teacher = rows(0)
    teacher[1, 2] = float("inf")
    with pytest.raises(ValueError, match="teacher's class tokens hold NaN or infinity"):
        ClsRegressionLoss()(rows(1), rows(2), teacher)
