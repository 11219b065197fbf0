"""BART's pre-training task on the captions' text alone."""

from __future__ import annotations

from typing import Any

import torch

from ..losses import ICTILoss
from .base import Method

__all__ = ["TextInfillingMethod"]


class TextInfillingMethod(Method):
    """Span infilling without pictures, for a decoder that starts from random weights.

    The paper starts from a pre-trained BART and needs no such phase; where no pre-trained decoder is to be had, this
    teaches it to read W'_e W_e E before any picture comes.

    Source: 002_330011b7ef9ac362.txt, section 3.1 (the task BART was pre-trained with).
    """

    student_inputs = ("input_ids", "attention_mask", "labels")
    student_options = {"labelled_logits_only": True}

    def __init__(self) -> None:
        super().__init__()
        self.icti = ICTILoss(per_token=True)

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the one part, ``infilling``."""
        return {"infilling": self.icti(outputs.logits, batch["labels"])}
