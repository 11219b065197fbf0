"""GELU in the order of operations that onnxruntime recognises and runs as one operator.

torch's exporter writes ``x * (0.5 * (1 + erf(x / sqrt(2))))``; onnxruntime's fusion looks for
``(x * (1 + erf(x / sqrt(2)))) * 0.5``. Factors of a power of two round nowhere, so the numbers stay the same.

Source: ``gelu_fusion.cc`` of onnxruntime.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

__all__ = ["order_gelu"]


def order_gelu(model: onnx.ModelProto) -> int:
    """Rewrite every such GELU of the main graph in place; returns how many there were."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    halves = {item.name for item in graph.initializer if _is_half(item)}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {item.name for item in graph.output}
    found = 0
    for inner in graph.node:
        half, summed = _halved(inner, halves)
        ordered = summed in producers and _is_erf_plus(producers[summed], producers)
        if half is None or not ordered or inner.output[0] in outputs or len(readers.get(inner.output[0], [])) != 1:
            continue
        (outer,) = readers[inner.output[0]]
        others = [name for name in outer.input if name != inner.output[0]]
        if outer.op_type == "Mul" and len(others) == 1:
            inner.input[:] = [others[0], summed]
            outer.input[:] = [inner.output[0], half]
            found += 1
    if found:
        del graph.value_info[:]  # shapes of the sums in between changed their meaning
    return found


def _is_half(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) > 1 or (tensor.dims and tensor.dims[0] != 1):
        return False
    return float(numpy_helper.to_array(tensor).reshape(-1)[0]) == 0.5


def _halved(node: onnx.NodeProto, halves: set[str]) -> tuple[str | None, str]:
    """The name of 0.5 and of what it multiplies, where ``node`` is such a product."""
    if node.op_type == "Mul":
        for half, other in (node.input, reversed(node.input)):
            if half in halves:
                return half, other
    return None, ""


def _is_erf_plus(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    return node.op_type == "Add" and any(name in producers and producers[name].op_type == "Erf" for name in node.input)
