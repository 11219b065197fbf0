"""The class distribution loss against sum p log(p / q), written again in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlkd_training.losses import ClassDistributionLoss


def logits(seed: int, rows: int = 5, classes: int = 7) -> np.ndarray:
    return 2 * np.random.default_rng(seed).normal(size=(rows, classes))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values)
    return powers / powers.sum(axis=1, keepdims=True)


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    """D_KL(softmax(teacher) || softmax(student)), summed over classes, averaged over rows."""
    p, q = softmax(teacher), softmax(student)
    return float((p * np.log(p / q)).sum() / len(p))


def test_is_half_of_each_divergence() -> None:
    """Teacher first, summed over the classes: a mean over the classes would be 1/C of equation (46)."""
    image, text, teacher = logits(0), logits(1), logits(2)
    found = ClassDistributionLoss()(torch.tensor(image), torch.tensor(text), torch.tensor(teacher))
    assert set(found) == {"kd_image", "kd_text"}
    assert found["kd_image"].item() == pytest.approx(divergence(teacher, image) / 2, rel=1e-5)
    assert found["kd_text"].item() == pytest.approx(divergence(teacher, text) / 2, rel=1e-5)
    assert divergence(teacher, image) != pytest.approx(divergence(image, teacher), rel=1e-2)


def test_a_uniform_student_costs_what_the_teacher_knows() -> None:
    """Closed form: D_KL(p || uniform) = log C - H(p), and 0 where the student equals the teacher."""
    teacher = logits(3)
    p = softmax(teacher)
    known = np.log(7) + float((p * np.log(p)).sum() / 5)
    found = ClassDistributionLoss()(torch.tensor(teacher), torch.full((5, 7), 3.0), torch.tensor(teacher))
    assert found["kd_image"].item() == pytest.approx(0, abs=1e-6)
    assert found["kd_text"].item() == pytest.approx(known / 2, rel=1e-5)


def test_the_teacher_may_be_sure() -> None:
    """Probabilities that round to 0 must not give 0 times minus infinity."""
    sure = torch.tensor([[500.0, 0.0, 0.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    found = ClassDistributionLoss()(student, student, sure)
    found["kd_image"].backward()
    assert found["kd_image"].item() == pytest.approx(np.log(3) / 2, rel=1e-6)
    assert torch.isfinite(student.grad).all()


def test_gradient_is_the_difference_of_the_distributions() -> None:
    """d/dz = (q - p) / (2 B) for the student, and nothing for the teacher."""
    image = torch.tensor(logits(4), dtype=torch.float32, requires_grad=True)
    teacher = torch.tensor(logits(5), dtype=torch.float32, requires_grad=True)
    sum(ClassDistributionLoss()(image, image, teacher).values()).backward()
    expected = (image.detach().softmax(-1) - teacher.detach().softmax(-1)) / 5
    torch.testing.assert_close(image.grad, expected, rtol=1e-4, atol=1e-7)
    assert teacher.grad is None


def test_a_shift_of_all_logits_changes_nothing() -> None:
    """pi of (45) is blind to it, on either side."""
    image, teacher = torch.tensor(logits(6)), torch.tensor(logits(7))
    plain = ClassDistributionLoss()(image, image, teacher)["kd_image"]
    torch.testing.assert_close(ClassDistributionLoss()(image + 3, image, teacher - 2)["kd_image"], plain)


def test_refuses_broadcasting() -> None:
    """One teacher row against a batch would teach every picture the same classes."""
    with pytest.raises(ValueError, match=r"Picture logits have shape \(5, 7\) and the teacher's \(1, 7\)"):
        ClassDistributionLoss()(torch.ones(5, 7), torch.ones(5, 7), torch.ones(1, 7))
    with pytest.raises(ValueError, match=r"Caption logits have shape \(5, 6\)"):
        ClassDistributionLoss()(torch.ones(5, 7), torch.ones(5, 6), torch.ones(5, 7))


def test_refuses_a_single_class() -> None:
    with pytest.raises(ValueError, match="over 1 class is always 1"):
        ClassDistributionLoss()(torch.ones(5, 1), torch.ones(5, 1), torch.ones(5, 1))


def test_refuses_a_broken_teacher() -> None:
    teacher = torch.ones(2, 3)
    teacher[1, 2] = float("nan")
    with pytest.raises(ValueError, match="teacher's logits hold NaN or infinity"):
        ClassDistributionLoss()(torch.ones(2, 3), torch.ones(2, 3), teacher)
