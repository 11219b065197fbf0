"""Training of the image vector quantizer."""

from __future__ import annotations

from typing import Any

import torch

from ..losses.image_quantization import ImageQuantizationLoss
from .base import Method

__all__ = ["ImageQuantizerMethod"]


class ImageQuantizerMethod(Method):
    """Reconstruction and commitment of ``ImageQuantizerModel``; its codebook moves in the model's own forward pass.

    The batch holds ``teacher_cls`` (batch, D) and ``teacher_patches`` (batch, N, width).

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.7, equation (88).
    """

    student_inputs = ("teacher_cls", "teacher_patches")

    def __init__(self) -> None:
        super().__init__()
        self.quantization = ImageQuantizationLoss()

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return ``reconstruction`` and ``commitment``, each with weight 1."""
        return self.row_parts(outputs, batch)

    def row_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Both are means over pictures."""
        return self.quantization(outputs.reconstruction, batch["teacher_cls"], outputs.projected, outputs.prototypes)
