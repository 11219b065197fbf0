"""The momentum encoder: equation (70), what it shares with the student, and its state."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlkd_training.methods import Method
from vlkd_training.momentum import MomentumEncoder


class Student(nn.Module):
    """A frozen backbone, a layer that trains, dropout, and a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.norm, self.dropout = nn.BatchNorm1d(5), nn.Dropout(0.5)
        self.backbone.requires_grad_(False)

    def forward(self, values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(embeds=self.head(self.dropout(self.norm(self.backbone(values)))))


@pytest.fixture
def student(seeded: None) -> Student:
    return Student()


def move(student: Student) -> None:
    """Stands for a step of the optimizer."""
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))


def test_equation_70_in_closed_form(student: Student) -> None:
    """After n steps theta_k = m^n theta_0 + (1 - m) sum_i m^(n - i) theta_i."""
    momentum = MomentumEncoder(0.9)
    momentum.update(student)
    history = [student.head.weight.detach().clone()]
    assert torch.equal(momentum.averages()["head.weight"], history[0])
    for _ in range(4):
        move(student)
        history.append(student.head.weight.detach().clone())
        momentum.update(student)
    expected = 0.9**4 * history[0] + sum(0.1 * 0.9 ** (4 - step) * history[step] for step in range(1, 5))
    torch.testing.assert_close(momentum.averages()["head.weight"], expected)


def test_the_default_is_the_thesis() -> None:
    assert MomentumEncoder().momentum == 0.995


def test_it_runs_the_averages_and_shares_the_rest(student: Student) -> None:
    """Frozen weights and running means are the student's of this moment; only what trains is averaged."""
    momentum = MomentumEncoder(0.9, student)
    before = {name: value.detach().clone() for name, value in student.head.named_parameters()}
    move(student)
    student.norm.running_mean.fill_(0.3)
    with torch.no_grad():
        student.backbone.weight.mul_(2)
    values = torch.randn(6, 4)
    found = momentum(student, values=values).embeds
    normed = (student.backbone(values) - 0.3) / (1 + student.norm.eps) ** 0.5
    scale, shift = momentum.averages()["norm.weight"], momentum.averages()["norm.bias"]
    expected = nn.functional.linear(normed * scale + shift, before["weight"], before["bias"])
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    assert set(momentum.averages()) == {"head.weight", "head.bias", "norm.weight", "norm.bias"}


def test_the_student_is_left_as_it_was(student: Student) -> None:
    """Its mode, its weights and its running means; a module in eval mode inside a training one stays so."""
    student.train()
    student.norm.eval()
    momentum = MomentumEncoder(0.9, student)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    first, second = (momentum(student, values=torch.ones(3, 4)).embeds for _ in range(2))
    assert torch.equal(first, second), "dropout is off"
    assert student.training and student.dropout.training and not student.norm.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_no_activation_is_kept(student: Student) -> None:
    """Run before the student's forward pass it leaves no graph behind, which is what saves the memory."""
    saved: list[torch.Tensor] = []
    momentum = MomentumEncoder(0.9, student)
    with torch.autograd.graph.saved_tensors_hooks(lambda value: saved.append(value) or value, lambda value: value):
        momentum(student, values=torch.ones(3, 4))
        assert not saved
        student(torch.ones(3, 4))
    assert saved


def test_the_averages_come_back_to_the_bit(student: Student, tmp_path: Path) -> None:
    """Inside a method, whose state is what a checkpoint keeps; a resumed one has no averages before it is loaded."""

    class WithMomentum(Method):
        def __init__(self) -> None:
            super().__init__()
            self.momentum = MomentumEncoder(0.9)

    unbroken = WithMomentum()
    for _ in range(3):
        unbroken.momentum.update(student)
        move(student)
    state = unbroken.checkpoint_state()
    assert sum(value.numel() for value in state.values()) == sum(
        value.numel() for value in student.parameters() if value.requires_grad
    ), "the state is what trains and no more"
    save_file(state, tmp_path / "method.safetensors")
    resumed = WithMomentum()
    resumed.load_checkpoint_state(load_file(tmp_path / "method.safetensors"))
    for method in (unbroken, resumed):
        method.momentum.update(student)
    assert resumed.momentum.averages().keys() == unbroken.momentum.averages().keys()
    for name, value in unbroken.momentum.averages().items():
        assert torch.equal(resumed.momentum.averages()[name], value), name


def test_refuses(student: Student) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1, got 1"):
        MomentumEncoder(1.0)
    momentum = MomentumEncoder()
    with pytest.raises(ValueError, match="call update"):
        momentum(student, values=torch.ones(1, 4))
    momentum.update(student)
    student.norm.requires_grad_(False)
    with pytest.raises(ValueError, match="averages other parameters than the model trains .the first: norm.bias"):
        momentum.update(student)
    with pytest.raises(ValueError, match="No parameter of the model trains"):
        MomentumEncoder().update(student.requires_grad_(False))
