"""Pictures to unit vectors and to what the decoder sees of them."""

from __future__ import annotations

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec
from vlkd_hub.models import VlkdForConditionalGeneration

__all__ = ["ImageEncoder", "image_encoder_spec"]


class ImageEncoder(nn.Module):
    """``pixel_values (B, 3, H, W)`` -> ``image_embeds (B, d1)``, ``visual_states (B, Nv, d2)``."""

    def __init__(self, model: VlkdForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image_embeds, visual_states = self.model.encode_image(pixel_values)
        return image_embeds, visual_states


def image_encoder_spec(model: VlkdForConditionalGeneration, height: int, width: int) -> GraphSpec:
    """The graph for pictures of ``height`` x ``width`` pixels, in batches of any size."""
    return GraphSpec(
        name="image_encoder",
        module=ImageEncoder(model),
        example=(torch.rand(2, 3, height, width),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["pixel_values"],
        output_names=["image_embeds", "visual_states"],
    )
