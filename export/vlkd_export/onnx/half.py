"""Weights and arithmetic of a graph as float16; what goes in and comes out stays float32."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx

from vlkd_export.onnx.graph import save_graph

__all__ = ["half_precision", "to_half"]


def to_half(path: Path) -> None:
    """Change the graph at ``path``.

    Onnxruntime's CPU provider computes few operators in float16 and casts around the rest, so that the file is half as
    large and no faster there; a GPU computes it as it is.
    """
    save_graph(half_precision(onnx.load(path)), path)


def half_precision(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """``model`` in float16 but for its inputs, its outputs and the nodes in ``keep``."""
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    whole = ONNXModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(keep) or None))
    whole.topological_sort()  # the converter puts the casts of the inputs at the end
    half: onnx.ModelProto = whole.model
    return half
