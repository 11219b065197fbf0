"""Fine-tuning and linear probing of an encoder on labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import Method

__all__ = ["ClassifyMethod"]


class ClassifyMethod(Method):
    """Cross-entropy with numbers of classes or mixed class distributions; squared error where there is one output.

    Args:
        label_smoothing: share of the target spread over the classes. With mixup its collator smooths instead.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.3, Tables 27 and 28.
    """

    student_inputs = ("pixel_values", "backbone_features", "input_ids", "attention_mask", "token_type_ids")

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the one part, ``label``.

        Args:
            outputs: with ``logits``, shape ``(batch, classes)``.
            batch: with ``labels``: numbers, shape ``(batch,)``, or distributions, shape ``(batch, classes)``.
        """
        logits, labels = outputs.logits.float(), batch["labels"]
        if logits.shape[-1] == 1:
            return {"label": nn.functional.mse_loss(logits.squeeze(-1), labels.float())}
        return {"label": nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}
