"""How near a student's representations are to its teacher's on data that neither trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers import TrainerCallback

from .losses.layer_average import LayerAverageLoss
from .teachers import LayerTeacher

__all__ = ["HeldOut", "HeldOutCallback"]

_console = Console(stderr=True)


class HeldOut:
    """Rows that are set aside, and what is measured on them.

    Args:
        rows: at least one; the collator takes some of them.
        collate: makes a batch, the same one each time.
        batch_size: rows of a batch.
    """

    def __init__(
        self, rows: Sequence[Any], collate: Callable[[Any], dict[str, torch.Tensor]], batch_size: int = 64
    ) -> None:
        self.rows, self.collate, self.batch_size = rows, collate, batch_size
        self.loss = LayerAverageLoss()

    @torch.no_grad()
    def measure(self, student: nn.Module, teacher: LayerTeacher) -> dict[str, float]:
        """Compare both on every row.

        Returns:
            ``held_out_loss``, the loss of equation (41), which the thesis validates by; and ``held_out_cosine``
            between the mean of the last layer's tokens, student and teacher. Both are means over rows.
        """
        device = next(student.parameters()).device
        training = student.training
        student.eval()
        loss = cosine = 0.0
        with torch.random.fork_rng(devices=[]):
            for at in range(0, len(self.rows), self.batch_size):
                batch = self.collate(self.rows[at : at + self.batch_size])
                batch = {name: value.to(device) for name, value in batch.items()}
                mask = batch.get("attention_mask")
                size = len(next(iter(batch.values())))
                layers = student(**batch, output_hidden_states=True).hidden_states[1:]
                target = teacher(batch)["teacher_layers"]
                loss += size * float(self.loss(layers, target, mask))
                ours, theirs = _mean(layers[-1], mask), _mean(target[-1], mask)
                cosine += float(nn.functional.cosine_similarity(ours, theirs, dim=-1).sum())
        student.train(training)
        return {"held_out_loss": loss / len(self.rows), "held_out_cosine": cosine / len(self.rows)}


class HeldOutCallback(TrainerCallback):
    """Measures before training, after every epoch, and at the end.

    Attributes:
        metrics: of the start, named ``..._before`` (not known in a resumed run), and of the latest measurement.
    """

    def __init__(self, held_out: HeldOut, teacher: LayerTeacher) -> None:
        self.held_out, self.teacher = held_out, teacher
        self.metrics: dict[str, float] = {}
        self._measured_at = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        found = self._measure(state, kwargs["model"])
        before = {f"{name}_before": value for name, value in found.items()} if state.global_step == 0 else {}
        self.metrics = before | found

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.metrics |= self._measure(state, kwargs["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != self._measured_at:
            self.metrics |= self._measure(state, kwargs["model"])

    def _measure(self, state: Any, model: nn.Module) -> dict[str, float]:
        self._measured_at = state.global_step
        found = self.held_out.measure(model, self.teacher)
        if state.is_world_process_zero:
            told = ", ".join(f"{name.removeprefix('held_out_')} {value:.4f}" for name, value in found.items())
            _console.print(f"Held out, step {state.global_step}: {told}")
        return found


def _mean(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean of the tokens that are no padding, (B, T, D) -> (B, D)."""
    if mask is None:
        return hidden.mean(dim=1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
