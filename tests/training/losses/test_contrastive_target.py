"""The contrastive target loss: closed forms, the bank, and what a temperature does to a toy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vlkd_training.losses import ContrastiveTargetLoss, MemoryBank


def unit(seed: int, rows: int, dim: int = 6) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


IDS = torch.tensor([4, 4, 0])
BANK = unit(3, 5), torch.tensor([4, 1, 2, 0, 9])


def by_hand(predictions: torch.Tensor, teacher: torch.Tensor, scale: float) -> float:
    """Half the cross-entropy over the batch and the bank; other rows of the query's picture left out."""
    keys, ids = torch.cat([teacher, BANK[0]]), [*IDS.tolist(), *BANK[1].tolist()]
    total = 0.0
    for row, query in enumerate(predictions):
        allowed = [place for place, picture in enumerate(ids) if place == row or picture != int(IDS[row])]
        scores = [scale * float(query @ keys[place]) for place in allowed]
        total -= scores[allowed.index(row)] - math.log(sum(map(math.exp, scores)))
    return total / len(predictions) / 2


@pytest.mark.parametrize(("temperature", "scale"), [(None, 1.0), (0.07, 1 / 0.07)])
def test_equations_79_to_85(temperature: float | None, scale: float) -> None:
    """Raw rows in, cosines inside; B' x (B' + G) logits; the halves of L_KD by name."""
    images, texts, teacher = unit(0, 3), unit(1, 3), unit(2, 3)
    stored = BANK[0] * 3, BANK[1]
    found = ContrastiveTargetLoss(temperature)(2 * images, texts * 7, teacher * 5, stored, IDS)
    assert list(found) == ["kd_image", "kd_text"]
    assert found["kd_image"].item() == pytest.approx(by_hand(images, teacher, scale), rel=1e-5)
    assert found["kd_text"].item() == pytest.approx(by_hand(texts, teacher, scale), rel=1e-5)


def test_no_temperature_leaves_the_best_loss_near_chance() -> None:
    """Closed form of the docstring: a perfect student against N - 1 opposite pictures still pays ln(1 + (N-1)/e^2)."""
    teacher = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    bank = teacher[1:].expand(62, 2), torch.ones(62, dtype=torch.long)
    perfect, ids = teacher[:1], torch.zeros(1, dtype=torch.long)
    plain = ContrastiveTargetLoss(None)(perfect, perfect, teacher[:1], bank, ids)
    assert plain["kd_text"].item() == pytest.approx(math.log(1 + 62 / math.e**2) / 2, rel=1e-5)
    assert ContrastiveTargetLoss()(perfect, perfect, teacher[:1], bank, ids)["kd_text"].item() < 1e-6


def test_a_learned_scale_wins_and_gets_its_gradient() -> None:
    scale = torch.tensor(4.0, requires_grad=True)
    inputs = unit(0, 3), unit(1, 3), unit(2, 3)
    found = ContrastiveTargetLoss(0.07)(*inputs, BANK, IDS, logit_scale=scale)
    assert found["kd_text"].item() == pytest.approx(by_hand(inputs[1], inputs[2], 4.0), rel=1e-5)
    found["kd_text"].backward()
    assert scale.grad is not None and scale.grad != 0


def test_the_teacher_gets_no_gradient() -> None:
    rows = [unit(seed, 3).requires_grad_() for seed in range(3)]
    sum(ContrastiveTargetLoss()(*rows).values()).backward()
    assert rows[0].grad is not None and rows[1].grad is not None and rows[2].grad is None


def test_only_the_direction_of_a_prediction_counts() -> None:
    """What the thesis wants of it against the squared distance: no pull towards the teacher's length."""
    rows, teacher = unit(0, 3).requires_grad_(), unit(1, 3)
    ContrastiveTargetLoss()(rows, unit(2, 3), teacher)["kd_image"].backward()
    assert rows.grad is not None
    torch.testing.assert_close((rows.grad * rows).sum(dim=-1), torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ((unit(0, 2), unit(1, 3), unit(2, 3)), {}, "Predictions from pictures have shape"),
        ((unit(0, 3), unit(1, 2), unit(2, 3)), {}, "Predictions from captions have shape"),
        ((unit(0, 3), unit(1, 3), unit(2, 3) * float("nan")), {}, "Teacher vectors hold NaN"),
        ((unit(0, 3), unit(1, 3), unit(2, 3)), {"bank": (BANK[0] * float("inf"), BANK[1])}, "bank hold NaN"),
        ((unit(0, 3), unit(1, 3), unit(2, 3)), {"bank": BANK, "image_ids": None}, "needs image_ids"),
        ((unit(0, 1), unit(1, 1), unit(2, 1)), {"image_ids": None}, "at least 2 candidates"),
    ],
)
def test_refuses(rows: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContrastiveTargetLoss()(*rows, **({"image_ids": IDS} | options))


def test_refuses_a_temperature_of_zero() -> None:
    with pytest.raises(ValueError, match="must be positive or None, got 0"):
        ContrastiveTargetLoss(0.0)


def recall_at_10(temperature: float | None, seed: int) -> float:
    """Train a narrow student of a toy teacher with a bank; the share of new captions that find their picture."""
    torch.manual_seed(seed)
    kind = torch.randint(0, 32, (640,))
    teacher = torch.randn(32, 32)[kind] + 0.5 * torch.randn(640, 32) + 0.5 * torch.randn(32)
    captions = torch.randn(32, 24)[kind] + 0.5 * teacher @ torch.randn(32, 24) / 32**0.5
    student = nn.Sequential(nn.Linear(24, 6), nn.Tanh(), nn.Linear(6, 32))
    loss, bank = ContrastiveTargetLoss(temperature), MemoryBank(256, 32)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-2)
    for _ in range(60):
        rows = torch.randint(0, 384, (32,))
        predicted = student(captions[rows])
        loss(predicted.detach(), predicted, teacher[rows], bank.valid(), rows)["kd_text"].backward()
        optimizer.step()
        optimizer.zero_grad()
        bank.push(teacher[rows], rows)
    found, pictures = (nn.functional.normalize(rows[384:], dim=-1) for rows in (student(captions), teacher))
    cosines = found @ pictures.t()
    return float(((cosines >= cosines.diagonal().unsqueeze(1)).sum(dim=1) <= 10).float().mean())


@pytest.mark.slow
def test_a_student_with_little_room_learns_more_with_a_temperature() -> None:
    """Why 0.07 is the default although (83) prints none. (A linear student with room enough learns as much without.)"""
    with_one, without = (recall_at_10(value, seed=0) for value in (0.07, None))
    assert with_one > without + 0.02 and without > 2 * 10 / 256
