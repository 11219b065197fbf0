"""What a quantizer must know of a graph: its weights, the tables it reads rows of, and groups of alike nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = [
    "TABLES",
    "Group",
    "as_array",
    "drop_unread",
    "initializers",
    "load_prepared",
    "quantizable",
    "split_groups",
    "table_reads",
]

QUANTIZED = ("Conv", "MatMul")
"""Operators with weights; a Gemm is written as MatMul and Add before."""
TABLES = "embedding tables"
MIN_TABLE = 1 << 16
"""Bytes; a smaller table gains nothing from fewer bits."""
MAX_GROUPS = 8
"""Groups of a graph: each one costs an evaluation when the autopilot looks for the harmful ones."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Alike nodes next to each other, put back to fp32 together."""

    name: str
    nodes: tuple[str, ...]


def load_prepared(path: Path) -> onnx.ModelProto:
    """Read a graph and bring it into the form that the quantizers understand.

    - Shapes noted by the exporter are dropped: onnxruntime's quantizer infers its own and stops at names that differ.
    - Gemm becomes MatMul and Add; a transposed weight becomes a weight of its own.
    - A table that is also a MatMul's weight, transposed (tied input and output embeddings), is kept once: the rows are
      read as columns of that weight.
    - Every node has a name.
    """
    model = onnx.load(path)
    del model.graph.value_info[:]
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    _split_gemms(model)
    _fold_transposes(model)
    _tie(model)
    return model


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Name -> weight."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _split_gemms(model: onnx.ModelProto) -> None:
    """Gemm as MatMul and Add, where it is no more than that.

    onnxruntime's own rewriting transposes the weight in its place, and a weight may have other readers.
    """
    weights = initializers(model)
    for node in [node for node in model.graph.node if node.op_type == "Gemm"]:
        options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        plain = options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0 and not options.get("transA", 0)
        if not plain or node.input[1] not in weights:
            continue
        weight, product = node.input[1], node.output[0]
        if options.get("transB", 0):
            weight = f"{node.name}_weight"
            array = as_array(weights[node.input[1]]).T
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), weight))
        at = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        if len(node.input) > 2:
            product = f"{node.output[0]}_product"
            add = onnx.helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}_bias")
            model.graph.node.insert(at, add)
        model.graph.node.insert(at, onnx.helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name))
    drop_unread(model)


def _fold_transposes(model: onnx.ModelProto) -> None:
    weights = initializers(model)
    for node in [node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in weights]:
        array = onnx.numpy_helper.to_array(weights[node.input[0]])
        order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), tuple(reversed(range(array.ndim))))
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ascontiguousarray(array.transpose(order)), node.output[0])
        )
        model.graph.node.remove(node)
    drop_unread(model)


def drop_unread(model: onnx.ModelProto) -> None:
    """Remove weights that no node takes."""
    taken = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in taken]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _tie(model: onnx.ModelProto) -> None:
    weights = initializers(model)
    products = [weights[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    for node in list(table_reads(model)):
        table = weights[node.input[0]]
        twin = next(
            (w for w in products if tuple(w.dims) == tuple(reversed(table.dims)) and _transposed(w, table)), None
        )
        if twin is None:
            continue
        columns = f"{node.output[0]}_columns"
        at = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        rank = 2  # token numbers are (batch, length): (d, batch, length) becomes (batch, length, d)
        new = [
            onnx.helper.make_node("Gather", [twin.name, node.input[1]], [columns], name=node.name, axis=1),
            onnx.helper.make_node(
                "Transpose",
                [columns],
                [node.output[0]],
                name=f"{node.name}_rows",
                perm=[*range(1, rank + 1), 0],
            ),
        ]
        for offset, item in enumerate(new):
            model.graph.node.insert(at + offset, item)
    drop_unread(model)


def _transposed(one: onnx.TensorProto, other: onnx.TensorProto) -> bool:
    first, second = onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other)
    return bool(np.array_equal(first, second.T))


def table_reads(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield each Gather of rows or columns from a large float table, token numbers by it."""
    weights = initializers(model)
    for node in model.graph.node:
        table = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.data_type != onnx.TensorProto.FLOAT:
            continue
        if 4 * int(np.prod(table.dims)) >= MIN_TABLE:
            yield node


def quantizable(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose weights can be quantized, in the order of the graph."""
    weights = initializers(model)
    return [node for node in model.graph.node if node.op_type in QUANTIZED and node.input[1] in weights]


def split_groups(model: onnx.ModelProto) -> list[Group]:
    """Groups of the quantizable nodes: one kind, next to each other, :data:`MAX_GROUPS` at most; and the tables."""
    kinds: dict[str, list[str]] = {}
    for node in quantizable(model):
        kinds.setdefault(_kind(node), []).append(node.name)
    tables = tuple(node.name for node in table_reads(model))
    room = MAX_GROUPS - bool(tables)
    total = sum(len(names) for names in kinds.values())
    groups = [Group(name=TABLES, nodes=tables)] if tables else []
    for kind, names in kinds.items():
        count = max(1, min(len(names), round(room * len(names) / total)))
        start = 0
        for part in np.array_split(np.array(names, dtype=object), count):
            label = f"{kind} {start + 1}-{start + len(part)} of {len(names)}"
            groups.append(Group(name=label, nodes=tuple(str(name) for name in part)))
            start += len(part)
    return groups


def _kind(node: onnx.NodeProto) -> str:
    if node.op_type != "Conv":
        return node.op_type
    group = next((item.i for item in node.attribute if item.name == "group"), 1)
    return "depthwise Conv" if group > 1 else "Conv"


def as_array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """A weight's values."""
    return np.asarray(onnx.numpy_helper.to_array(tensor), dtype=np.float32)
