"""An image tower of CLIP's ViT-B/32 size with random weights: what others are timed on, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec, export_graph

__all__ = ["VIT_B_32", "ClipTower", "export_clip_tower"]

VIT_B_32: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 512,
}
"""Source: Radford et al., arXiv:2103.00020, Table 19; 87.8 million parameters."""


class ClipTower(nn.Module):
    """``pixel_values (B, 3, H, W)`` -> ``image_embeds (B, dim)``.

    Args:
        sizes: of transformers' ``CLIPVisionConfig``.
    """

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        self.image_size = int(sizes["image_size"])
        self.model: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        embeds: torch.Tensor = self.model(pixel_values=pixel_values).image_embeds
        return embeds

    def pixels(self, batch: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Random pictures, normalised, ``(batch, 3, H, W)``."""
        shape = (batch, 3, self.image_size, self.image_size)
        return np.random.RandomState(batch).standard_normal(shape).astype(np.float32)


def export_clip_tower(folder: Path, sizes: dict[str, Any], opset: int = 18) -> tuple[ClipTower, Path]:
    """Make the tower and its graph ``folder/image_encoder.onnx``."""
    torch.manual_seed(0)
    tower = ClipTower(sizes).eval()
    spec = GraphSpec(
        name="image_encoder",
        module=tower,
        example=(torch.from_numpy(tower.pixels(2)),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["pixel_values"],
        output_names=["image_embeds"],
    )
    return tower, export_graph(spec, folder, opset)
