"""LiT-style alignment of two unimodal encoders: the CLIP-style teacher."""

from __future__ import annotations

from typing import Any

import torch

from ..losses import ITCLLoss
from .base import Method

__all__ = ["AlignMethod"]


class AlignMethod(Method):
    """Symmetric InfoNCE with a learnable temperature over frozen or low-rate towers.

    Args:
        label_smoothing: share of the target spread over the batch.
    """

    student_inputs = ("input_ids", "attention_mask", "pixel_values", "image_backbone_features", "text_pooled")
    contrast_outputs = ("image_embeds", "text_embeds", "logit_scale")

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.itcl = ITCLLoss(label_smoothing=label_smoothing)

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the one part, ``itcl``."""
        return self.contrast_parts(outputs, batch)

    def contrast_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Each picture against every text; the temperature is already in the student's scale."""
        scale = outputs.logit_scale
        return {"itcl": self.itcl(outputs.image_embeds, outputs.text_embeds, scale, batch.get("image_ids"))}
