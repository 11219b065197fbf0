"""Transformer SHRe and S-SMKE as graphs: the encoders of a dual encoder and, if asked for, words against patches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from vlkd_export.onnx.dual_encoder import DualEncoderExporter
from vlkd_export.onnx.graph import GraphSpec
from vlkd_export.onnx.image_encoder import image_encoder_spec
from vlkd_export.onnx.text_encoder import text_encoder_spec
from vlkd_export.settings import ExportSettings
from vlkd_hub.bundle import MatchingSpec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import ImageProcessor
from vlkd_hub.runtime.matching import grid_side

__all__ = ["MatchingTowers", "SmkeExporter"]


class MatchingTowers(nn.Module):
    """Patches with their self-attention, and tokens, in one pass each; where words and patches are compared."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.attends = model.config.shared == "transformer"

    def encode_image(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``(B, 3, H, W)`` -> ``(B, N, D)`` and, of a shared Transformer, ``(B, 1 + N, 1 + N)``."""
        output = self.model.encode_image(pixel_values, tokens=True, attention=self.attends)
        patches = self.model.comparable(output)[:, 1:]
        return (patches, output.attention) if self.attends else (patches,)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        """``(B, T)`` twice -> ``(B, T, D)``."""
        return (self.model.get_text_tokens(input_ids, attention_mask),)


class SmkeExporter(DualEncoderExporter):
    """Exports :class:`~vlkd_hub.models.SmkeModel`."""

    @property
    def logit_scale(self) -> float:
        """Of the layer that search uses; 1 where that layer had no contrast, as the model scores it."""
        layers, wanted = self.model.config.contrast_layers, self.model.config.embedding_layer
        return float(self.model.logit_scale.detach()[layers.index(wanted)].exp()) if wanted in layers else 1.0

    def graphs(
        self, settings: ExportSettings, task: str, processor: ImageProcessor
    ) -> dict[str, Callable[[], GraphSpec]]:
        """Two more where words are to be matched."""
        graphs = super().graphs(settings, task, processor)
        if settings.match_words:
            towers, size = MatchingTowers(self.model).eval(), processor.output_size
            fixed = None if settings.dynamic_axes else self.fixed_length(settings)
            outputs = ("image_tokens", "image_attention")[: 1 + towers.attends]
            graphs["image_tokens"] = lambda: image_encoder_spec(
                towers, *size, outputs, fixed=bool(fixed), name="image_tokens"
            )
            graphs["text_tokens"] = lambda: text_encoder_spec(
                towers, ("text_tokens",), max_length=self.max_length, fixed_length=fixed, name="text_tokens"
            )
        return graphs

    @torch.no_grad()
    def matching(self, size: tuple[int, int]) -> MatchingSpec:
        """See :meth:`ModelExporter.matching`.

        Raises:
            InvalidInputError: the patches are no square grid.
        """
        _, patches, width = self.model.get_image_tokens(torch.zeros(1, 3, *size)).shape
        side = grid_side(patches)
        return MatchingSpec(rows=side, columns=side, width=width, attention=self.model.config.shared == "transformer")

    def match_image(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See :meth:`ModelExporter.match_image`."""
        tokens = self.model.get_image_tokens(pixel_values)
        if self.model.config.shared != "transformer":
            return (tokens,)
        return tokens, self.model.get_image_attention(pixel_values)

    def match_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """See :meth:`ModelExporter.match_text`."""
        tokens: torch.Tensor = self.model.get_text_tokens(input_ids, attention_mask)
        return tokens

    def tracing(self, settings: ExportSettings) -> AbstractContextManager[None]:
        """See :meth:`ModelExporter.tracing`.

        Raises:
            InvalidInputError: pictures of any size were asked for; every patch of S-SMKE has a position of its own.
        """
        if settings.dynamic_image_size:
            raise InvalidInputError(
                "SmkeModel takes pictures of one size only: every patch has a position of its own. Leave "
                "--dynamic-image-size out."
            )
        return super().tracing(settings)
