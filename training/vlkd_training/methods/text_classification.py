"""Labels of texts: GLUE on a student that was distilled with pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import Method

__all__ = ["TextClassificationMethod"]


class TextClassificationMethod(Method):
    """Cross-entropy over labels; squared error where the student has one output (STS-B).

    Source: 002_330011b7ef9ac362.txt, section 4.5 (Table 5); the losses are BART's.
    """

    student_inputs = ("input_ids", "attention_mask")

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the one part, ``label``.

        Args:
            outputs: of :class:`vlkd_hub.models.vlkd.VlkdForSequenceClassification`, logits ``(batch, labels)``.
            batch: with ``labels``, ``(batch,)``.
        """
        logits, labels = outputs.logits.float(), batch["labels"]
        if logits.shape[-1] == 1:
            return {"label": nn.functional.mse_loss(logits.squeeze(-1), labels.float())}
        return {"label": nn.functional.cross_entropy(logits, labels)}
