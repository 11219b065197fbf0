"""Unimodal distillation: a shallow encoder learns the mean of its teacher's layers."""

from __future__ import annotations

from typing import Any

import torch

from ..losses.layer_average import LayerAverageLoss
from .base import Method

__all__ = ["UnimodalMethod"]


class UnimodalMethod(Method):
    """Layer average of the student against that of its live teacher, at every time step.

    The batch holds the pictures or the words, and ``teacher_layers``: the outputs of the teacher's layers for the very
    same input, augmentation included, as :class:`vlkd_training.teachers.LayerTeacher` adds them.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1, equations (36)-(41).
    """

    student_inputs = ("pixel_values", "input_ids", "attention_mask")
    student_options = {"output_hidden_states": True}

    def __init__(self) -> None:
        super().__init__()
        self.layer_average = LayerAverageLoss()

    def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the one part, ``layer_average``."""
        layers = outputs.hidden_states[1:]  # the first is what enters layer 1
        return {"layer_average": self.layer_average(layers, batch["teacher_layers"], batch.get("attention_mask"))}
