"""Weights that are only stored in fewer bits: rows of embedding tables, kernels of convolutions, all in float16."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray

from vlkd_export.quantize.graph import as_array, drop_unread, initializers, table_reads

__all__ = ["halve_weights", "quantize_tables", "shrink_convolutions"]

ZERO_POINT_8 = 128
"""Of onnxruntime's 8-bit block format, where none is given."""
SMALL = 256
"""Numbers: below this a tensor stays as it is, the node that widens it would be as large."""


def quantize_tables(model: onnx.ModelProto, exclude: Collection[str] = ()) -> int:
    """Store the large tables that Gather nodes read as int8.

    A table that a quantizer has already written as a MatMul's int8 weight (tied embeddings) is not stored again: its
    columns are read from that weight.

    Args:
        model: changed in place.
        exclude: names of Gather nodes that stay as they are.

    Returns:
        How many nodes were changed.
    """
    changed = 0
    for node in list(table_reads(model)):
        if node.name in exclude:
            continue
        axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
        new = _from_columns(model, node) if axis == 1 else _from_rows(model, node)
        if new:
            at = list(model.graph.node).index(node)
            model.graph.node.remove(node)
            for offset, item in enumerate(new):
                model.graph.node.insert(at + offset, item)
            changed += 1
    drop_unread(model)
    return changed


def shrink_convolutions(model: onnx.ModelProto, exclude: Collection[str] = ()) -> int:
    """Store the kernels of convolutions as int8, one scale an output channel, widened before use.

    Args:
        model: changed in place.
        exclude: names of Conv nodes that stay as they are.

    Returns:
        How many were changed.
    """
    weights = initializers(model)
    nodes = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in weights and n.name not in exclude]
    for node in nodes:
        name = node.input[1]
        kernel = as_array(weights[name])  # (out, in, height, width)
        scale = np.maximum(np.abs(kernel).max(axis=(1, 2, 3)), 1e-12) / 127
        _add(model, f"{name}_int8", np.rint(kernel / scale[:, None, None, None]).astype(np.int8))
        _add(model, f"{name}_scales", scale.astype(np.float32))
        node.input[1] = f"{name}_{node.name}_float"
        widen = onnx.helper.make_node(
            "DequantizeLinear",
            [f"{name}_int8", f"{name}_scales"],
            [node.input[1]],
            name=f"{node.name}_kernel",
            axis=0,
        )
        model.graph.node.insert(list(model.graph.node).index(node), widen)
    drop_unread(model)
    return len(nodes)


def halve_weights(model: onnx.ModelProto, exclude: Collection[str] = ()) -> int:
    """Store float32 weights as float16 with a Cast behind each; both runtimes do the cast once, when they open it.

    Tables that only Gather nodes read (:func:`quantize_tables` is for them), small tensors and values that float16
    cannot hold stay as they are.

    Args:
        model: changed in place.
        exclude: names of nodes whose weights stay as they are.

    Returns:
        How many tensors were changed.
    """
    keep = {name for node in model.graph.node if node.name in exclude for name in node.input}
    tables = {id(node) for node in table_reads(model)}
    shared = {name for node in model.graph.node if id(node) not in tables for name in node.input}
    keep |= {node.input[0] for node in table_reads(model)} - shared
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or tensor.name in keep:
            continue
        array = as_array(tensor)
        if array.size < SMALL or not np.abs(array).max() <= np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_widen", to=1))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(casts)


def _from_rows(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """``table[ids]`` as int8 rows times their scales, widened after reading: only the rows in use are."""
    table = as_array(initializers(model)[node.input[0]])  # (V, d)
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127  # (V, 1)
    rows = np.rint(table / scale).astype(np.int8)
    names = [f"{node.input[0]}_rows", f"{node.input[0]}_row_scales"]
    _add(model, names[0], rows)
    _add(model, names[1], scale.astype(np.float32))
    return _widened(node, names[0], names[1], axis=0)


def _from_columns(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Columns of a MatMul's weight, as the quantizer left it; empty where it left it in float: it stays one table."""
    weight, known = node.input[0], initializers(model)
    names = [f"{weight}_quantized", f"{weight}_scale"]
    if names[0] in known and len(known[names[1]].dims) == 1:
        return _widened(node, names[0], _scale_row(model, names[1]), axis=1)
    blocks = next((n for n in model.graph.node if n.op_type == "MatMulNBits" and n.input[1].startswith(weight)), None)
    if blocks is None:
        return []
    if next(item.i for item in blocks.attribute if item.name == "bits") == 8:
        return _from_blocks(model, node, blocks)
    table = as_array(known[weight])  # (d, V); of 4 bits only the product is made, a row read is added to others whole
    scale = np.maximum(np.abs(table).max(axis=0, keepdims=True), 1e-12) / 127  # (1, V)
    _add(model, f"{weight}_table", np.rint(table / scale).astype(np.int8))
    _add(model, f"{weight}_table_scales", scale.astype(np.float32))
    return _widened(node, f"{weight}_table", f"{weight}_table_scales", axis=1)


def _scale_row(model: onnx.ModelProto, name: str) -> str:
    """The scales of the columns with a first axis of one, so that they are read in the columns' shape."""
    _add(model, f"{name}_row", as_array(initializers(model)[name])[None])
    return f"{name}_row"


def _widened(node: onnx.NodeProto, values: str, scales: str, axis: int) -> list[onnx.NodeProto]:
    make, ids, out = onnx.helper.make_node, node.input[1], node.output[0]
    return [
        make("Gather", [values, ids], [f"{out}_int8"], name=f"{node.name}_int8", axis=axis),
        make("Gather", [scales, ids], [f"{out}_scale"], name=f"{node.name}_scale", axis=axis),
        make("Cast", [f"{out}_int8"], [f"{out}_float"], name=f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
        make("Mul", [f"{out}_float", f"{out}_scale"], [out], name=f"{node.name}_mul"),
    ]


def _from_blocks(model: onnx.ModelProto, node: onnx.NodeProto, blocks: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Rows of onnxruntime's 8-bit blocks ``(V, blocks, size)``, as ``(d, batch, length)`` for the node that follows."""
    make, ids, out = onnx.helper.make_node, node.input[1], node.output[0]
    packed, scales = blocks.input[1], blocks.input[2]
    rows, count, _ = initializers(model)[packed].dims
    table_scales = f"{scales}_rows"
    _add(model, table_scales, as_array(initializers(model)[scales]).reshape(rows, count, 1))
    _add(model, f"{out}_zero", np.array(ZERO_POINT_8, np.float32))
    _add(model, f"{out}_shape", np.array([0, 0, -1], np.int64))
    return [
        make("Gather", [packed, ids], [f"{out}_uint8"], name=f"{node.name}_uint8", axis=0),
        make("Gather", [table_scales, ids], [f"{out}_scale"], name=f"{node.name}_scale", axis=0),
        make("Cast", [f"{out}_uint8"], [f"{out}_float"], name=f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
        make("Sub", [f"{out}_float", f"{out}_zero"], [f"{out}_centred"], name=f"{node.name}_sub"),
        make("Mul", [f"{out}_centred", f"{out}_scale"], [f"{out}_blocks"], name=f"{node.name}_mul"),
        make("Reshape", [f"{out}_blocks", f"{out}_shape"], [f"{out}_flat"], name=f"{node.name}_flat"),
        make("Transpose", [f"{out}_flat"], [out], name=f"{node.name}_columns", perm=[2, 0, 1]),
    ]


def _add(model: onnx.ModelProto, name: str, array: NDArray[np.generic]) -> None:
    if name not in initializers(model):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
