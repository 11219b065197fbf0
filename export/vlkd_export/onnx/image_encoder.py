"""Pictures to unit vectors and, for a model that writes, to what its decoder sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec

__all__ = ["ImageEncoder", "image_encoder_spec"]

OUTPUTS = ("image_embeds", "visual_states")


class ImageEncoder(nn.Module):
    """``pixel_values (B, 3, H, W)`` -> ``image_embeds (B, d1)`` and, where there are any, states ``(B, Nv, d2)``."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.model.encode_image(pixel_values))


def image_encoder_spec(
    model: Any,
    height: int,
    width: int,
    outputs: Sequence[str] = OUTPUTS,
    *,
    fixed: bool = False,
    any_size: bool = False,
    name: str = "image_encoder",
) -> GraphSpec:
    """The graph for pictures of ``height`` x ``width`` pixels.

    Args:
        model: has ``encode_image``; see :class:`~vlkd_export.onnx.model_exporter.ModelExporter`.
        height: pixels.
        width: pixels.
        outputs: names of what ``encode_image`` returns.
        fixed: one picture a run instead of batches of any size.
        any_size: square pictures of other sizes too; the tower must have been made ready for it.
        name: of the graph.
    """
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if any_size:
        axes |= dict.fromkeys((2, 3), torch.export.Dim("size", min=32))
    return GraphSpec(
        name=name,
        module=ImageEncoder(model),
        example=(torch.rand(1 if fixed else 2, 3, height, width),),
        dynamic_shapes=None if fixed else (axes,),
        input_names=["pixel_values"],
        output_names=list(outputs),
    )
