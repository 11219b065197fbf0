"""The layer average against equations (36)-(41), written again with loops, and against torch's own norms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vlkd_training.losses import LayerAverageLoss

BATCH, TIME, WIDTH = 3, 5, 4


def layers(seed: int, count: int, time: int = TIME) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(BATCH, time, WIDTH, generator=generator) + 1 for _ in range(count)]


def average(stack: list[np.ndarray], eps: float) -> np.ndarray:
    """(36)-(40) for one sample: a list of (time, width)."""
    time, width = stack[0].shape
    total = np.zeros((time, width))
    for hidden in stack:
        for d in range(width):
            mean = sum(hidden[t, d] for t in range(time)) / time
            variance = sum((hidden[t, d] - mean) ** 2 for t in range(time)) / time
            total[:, d] += (hidden[:, d] - mean) / math.sqrt(variance + eps) / len(stack)
    for t in range(time):
        mean = total[t].sum() / width
        variance = ((total[t] - mean) ** 2).sum() / width
        total[t] = (total[t] - mean) / math.sqrt(variance + 1e-5)
    return total


def reference(student: list[torch.Tensor], teacher: list[torch.Tensor], lengths: list[int], eps: float = 1e-8) -> float:
    total = 0.0
    for sample, length in enumerate(lengths):
        sides = [
            average([layer[sample, :length].double().numpy() for layer in side], eps) for side in (student, teacher)
        ]
        total += sum(float(((sides[0][t] - sides[1][t]) ** 2).sum()) / WIDTH for t in range(length)) / length
    return total / len(lengths)


@pytest.mark.parametrize(("count", "eps"), [(2, 1e-8), (4, 1e-8), (2, 0.5)])
def test_is_the_equations(count: int, eps: float) -> None:
    """Student and teacher may have different numbers of layers; eps is added to the variance."""
    student, teacher = layers(0, count), layers(1, 4)
    found = LayerAverageLoss(eps)(student, teacher)
    assert found.item() == pytest.approx(reference(student, teacher, [TIME] * BATCH, eps), rel=1e-4)


def test_is_torchs_own_norms() -> None:
    """Instance norm over time, mean, layer norm without parameters, mean squared error over all time steps."""

    def side(stack: list[torch.Tensor]) -> torch.Tensor:
        normal = [torch.nn.functional.instance_norm(layer.transpose(1, 2), eps=1e-8).transpose(1, 2) for layer in stack]
        return torch.nn.functional.layer_norm(torch.stack(normal).mean(dim=0), (WIDTH,))

    student, teacher = layers(2, 2), layers(3, 3)
    expected = torch.nn.functional.mse_loss(side(student), side(teacher))
    torch.testing.assert_close(LayerAverageLoss()(student, teacher), expected)


def test_the_same_average_costs_nothing() -> None:
    """A layer twice averages to itself, and scale and offset of a dimension are normalised away."""
    teacher = layers(4, 1)
    student = [2 * teacher[0] + torch.arange(WIDTH), teacher[0]]
    assert LayerAverageLoss()(student, teacher).item() == pytest.approx(0, abs=1e-6)


def test_padding_enters_neither_the_statistics_nor_the_loss() -> None:
    """Each text is what it would be alone, even with NaN in its padding, and no gradient reaches padding."""
    lengths = [5, 3, 2]
    student, teacher = layers(5, 2), layers(6, 3)
    mask = torch.arange(TIME).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    expected = reference(student, teacher, lengths)
    for layer in (*student, *teacher):
        layer[~mask] = float("nan")
    student = [layer.requires_grad_() for layer in student]
    found = LayerAverageLoss()(student, teacher, mask.long())
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-4)
    for layer in student:
        assert (layer.grad[~mask] == 0).all()
        assert (layer.grad[mask].abs().sum(dim=-1) > 0).all()


def test_a_mask_of_ones_is_no_mask() -> None:
    student, teacher = layers(7, 2), layers(8, 2)
    masked = LayerAverageLoss()(student, teacher, torch.ones(BATCH, TIME))
    torch.testing.assert_close(masked, LayerAverageLoss()(student, teacher))


def test_order_and_sides_do_not_matter() -> None:
    """Neither the order of the layers nor of the batch, nor which side is called the student."""
    student, teacher, order = layers(9, 2), layers(10, 3), torch.tensor([2, 0, 1])
    plain = LayerAverageLoss()(student, teacher)
    torch.testing.assert_close(LayerAverageLoss()(teacher, student), plain)
    torch.testing.assert_close(LayerAverageLoss()(student[::-1], teacher), plain)
    shuffled = ([layer[order] for layer in side] for side in (student, teacher))
    torch.testing.assert_close(LayerAverageLoss()(*shuffled), plain)


def test_gradient_against_numeric_derivatives() -> None:
    student, teacher = [layer.requires_grad_() for layer in layers(11, 2)], layers(12, 3)
    teacher[0].requires_grad_()
    LayerAverageLoss()(student, teacher).backward()
    assert teacher[0].grad is None
    for place in ((0, 0, 0), (2, 4, 3)):
        moved = []
        for step in (1e-4, -1e-4):
            copy = [layer.detach().double().clone() for layer in student]
            copy[1][place] += step
            moved.append(reference(copy, [layer.detach() for layer in teacher], [TIME] * BATCH))
        numeric = (moved[0] - moved[1]) / 2e-4
        assert student[1].grad[place].item() == pytest.approx(numeric, rel=1e-2, abs=1e-5)


def test_a_dimension_that_never_moves_stays_finite() -> None:
    """Variance 0 is divided by sqrt(eps)."""
    student = layers(13, 1)
    student[0][:, :, 1] = 2.0
    student[0].requires_grad_()
    LayerAverageLoss()(student, layers(14, 1)).backward()
    assert torch.isfinite(student[0].grad).all()


def test_refuses_what_would_go_wrong_silently() -> None:
    with pytest.raises(ValueError, match="Got 0 layers of the student and 2 of the teacher"):
        LayerAverageLoss()([], layers(0, 2))
    with pytest.raises(ValueError, match=r"Layer 1 of the student has shape \(3, 1, 4\)"):
        LayerAverageLoss()(layers(0, 1, time=1), layers(1, 2))
    with pytest.raises(ValueError, match="all must be"):
        LayerAverageLoss()([torch.ones(3, 4)], [torch.ones(3, 4)])
    with pytest.raises(ValueError, match=r"attention_mask has shape \(3, 1\)"):
        LayerAverageLoss()(layers(0, 1), layers(1, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match="fewer than 2 time steps"):
        LayerAverageLoss()(
            layers(0, 1), layers(1, 1), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_a_broken_teacher(bad: float) -> None:
    teacher = layers(0, 2)
    teacher[1][0, 1, 2] = bad
    with pytest.raises(ValueError, match="teacher's layers hold NaN or infinity"):
        LayerAverageLoss()(layers(1, 2), teacher)
