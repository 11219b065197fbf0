"""A dual encoder as graphs: the aligned teacher of this package, and CLIP itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoModel

from vlkd_export.onnx.model_exporter import ModelExporter

__all__ = ["DualEncoderExporter", "DualEncoderTowers"]

DEFAULT_POSITIONS = 512


class DualEncoderTowers(nn.Module):
    """CLIP's ``get_image_features`` and ``get_text_features`` as unit vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode_image(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        """``(B, 3, H, W)`` -> ``(B, projection_dim)``."""
        return (nn.functional.normalize(self.model.get_image_features(pixel_values).pooler_output, dim=-1),)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        """``(B, T)`` twice -> ``(B, projection_dim)``."""
        return (nn.functional.normalize(self.model.get_text_features(input_ids, attention_mask).pooler_output, dim=-1),)


class DualEncoderExporter(ModelExporter):
    """Exports :class:`~vlkd_hub.models.DualEncoderModel` and transformers' ``CLIPModel``."""

    tasks: ClassVar[tuple[str, ...]] = ("feature-extraction", "zero-shot-image-classification")

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._towers = DualEncoderTowers(model).eval()

    @classmethod
    def load(cls, path: Path) -> Any:
        """The model in ``path``."""
        return AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)

    @property
    def towers(self) -> DualEncoderTowers:
        """See :meth:`ModelExporter.towers`."""
        return self._towers

    @property
    def logit_scale(self) -> float:
        """Its own."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def max_length(self) -> int:
        """Of the text tower."""
        return int(getattr(self.model.config.text_config, "max_position_embeddings", DEFAULT_POSITIONS))

    @property
    def _vision_tower(self) -> nn.Module | None:
        return getattr(self.model, "vision_tower", None)
