"""uint8 pictures of any size to vectors: resize, crop and normalisation inside the graph.

ONNX's own ``Resize(antialias=1)`` rounds and clips nowhere between its two passes: of 3,072 bytes of a striped picture
made 32 x 32, 4 % were one step of 255 off Pillow's with ``exclude_outside``, 12 % by up to seven without it. Here the
resize is what Pillow does: a product with a matrix of weights along each axis, rounded to whole bytes after each. The
weights are made in the graph from the picture's size, in integers as far as it goes, so that they keep float32's
precision for large pictures too.

Source of the weights: ``precompute_coeffs`` in Pillow's ``libImaging/Resample.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import ImageProcessor

__all__ = ["PictureEncoder", "picture_encoder_spec"]


def _bilinear(x: torch.Tensor) -> torch.Tensor:
    """The filter's weight at distance ``x >= 0``; Pillow's triangle."""
    return (1 - x).clamp(min=0)


def _bicubic(x: torch.Tensor) -> torch.Tensor:
    """The same with Pillow's cubic, ``a = -0.5``."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


FILTERS: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {2: _bilinear, 3: _bicubic}
"""Pillow's number of the filter -> its weights."""


class PictureEncoder(nn.Module):
    """``pixels (B, H, W, 3)``, uint8 RGB of any size -> what ``model.encode_image`` returns.

    Args:
        model: has ``encode_image``.
        processor: how pictures are made ready; its resize, crop and normalisation are built in.

    Raises:
        InvalidInputError: the processor resizes with a filter that is not built here.
    """

    def __init__(self, model: Any, processor: ImageProcessor) -> None:
        super().__init__()
        if processor.do_resize and processor.resample not in FILTERS:
            raise InvalidInputError(
                f"Preprocessing in the graph knows Pillow's bilinear (2) and bicubic (3) resize; the student's "
                f"preprocessor_config.json asks for {processor.resample}. Leave --preprocessing-in-graph out."
            )
        self.model = model
        self.size = processor.size if processor.do_resize else None
        self.output_size = processor.output_size
        self.weight = FILTERS.get(processor.resample, _bilinear)
        # The processor maps a byte b to table[c, b], which is a line in b.
        self.offset: torch.Tensor
        self.slope: torch.Tensor
        table = torch.from_numpy(processor.table)
        self.register_buffer("offset", table[:, :1, None].clone(), persistent=False)  # (3, 1, 1)
        self.register_buffer("slope", (table[:, -1:, None] - table[:, :1, None]) / 255, persistent=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.model.encode_image(self.pixel_values(pixels)))

    def pixel_values(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(B, H, W, 3)`` uint8 -> ``(B, 3, height, width)`` float32, as the processor makes them."""
        rows, columns = (torch.arange(length) for length in pixels.shape[1:3])
        have = rows[-1] + 1, columns[-1] + 1
        wanted = self._resized(*have)
        across, down = (
            self._weights(places, length, resized, crop)
            for places, length, resized, crop in zip(
                (columns, rows), have[::-1], wanted[::-1], self.output_size[::-1], strict=True
            )
        )
        values = pixels.permute(0, 3, 1, 2).to(torch.float32)  # (B, 3, H, W)
        values = _to_bytes(values @ across.t())  # (B, 3, H, width)
        values = _to_bytes(down @ values)  # (B, 3, height, width)
        return values * self.slope + self.offset

    def _resized(self, height: torch.Tensor, width: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Height and width after the resize and before the crop."""
        if self.size is None:
            return height, width
        if "height" in self.size:
            return torch.full_like(height, self.size["height"]), torch.full_like(width, self.size["width"])
        short, edge = torch.minimum(height, width), self.size["shortest_edge"]
        return edge * height // short, edge * width // short

    def _weights(self, places: torch.Tensor, have: torch.Tensor, resized: torch.Tensor, crop: int) -> torch.Tensor:
        """What each pixel of the result takes of each pixel of the picture along one axis, ``(crop, have)``."""
        spare = resized - crop
        start = torch.where(spare >= 0, spare // 2, -((1 - spare) // 2))
        target = torch.arange(crop) + start
        # The distance of two pixel centres, in steps of the coarser grid, times 2 * max(have, resized).
        distance = (2 * places + 1)[None] * resized - (2 * target + 1)[:, None] * have
        x = distance.abs().to(torch.float32) / (2 * torch.maximum(have, resized)).to(torch.float32)
        weights = self.weight(x)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
        inside = (target >= 0) & (target < resized)  # a picture smaller than the crop is laid on black
        return weights * inside[:, None].to(weights.dtype)


def _to_bytes(values: torch.Tensor) -> torch.Tensor:
    """Whole numbers from 0 to 255, halves up, still as float32."""
    return (values + 0.5).floor().clamp(0, 255)


def picture_encoder_spec(
    model: Any, processor: ImageProcessor, outputs: tuple[str, ...], *, fixed: bool = False
) -> GraphSpec:
    """The graph for pictures of any size, the same within a batch.

    Args:
        model: has ``encode_image``.
        processor: as the bundle's.
        outputs: names of what ``encode_image`` returns.
        fixed: one picture a run; its size stays free.
    """
    height, width = torch.export.Dim("height", min=2, max=1 << 14), torch.export.Dim("width", min=2, max=1 << 14)
    axes: dict[int, Any] = {1: height, 2: width} | ({} if fixed else {0: torch.export.Dim("batch")})
    return GraphSpec(
        name="picture_encoder",
        module=PictureEncoder(model, processor),
        example=(torch.randint(0, 256, (1 if fixed else 2, 61, 87, 3), dtype=torch.uint8),),
        dynamic_shapes=(axes,),
        input_names=["pixels"],
        output_names=list(outputs),
    )
