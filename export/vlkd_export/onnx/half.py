"""Weights and arithmetic of a graph as float16; what goes in and comes out stays float32."""

from __future__ import annotations

from pathlib import Path

import onnx

from vlkd_export.onnx.graph import save_graph

__all__ = ["to_half"]


def to_half(path: Path) -> None:
    """Change the graph at ``path``.

    Onnxruntime's CPU provider computes few operators in float16 and casts around the rest, so that the file is half as
    large and no faster there; a GPU computes it as it is.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    save_graph(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)
