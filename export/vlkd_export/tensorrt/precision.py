"""Graphs in half precision whose sensitive parts stay in fp32, by types that stand in the graph itself.

TensorRT 11 has no precision switches any more, and those of 10 (``BuilderFlag.FP16`` and its kin) are deprecated: a
network is strongly typed, and what the graph says is what runs. Left to itself, fp16 breaks CLIP-like models in their
layer norms and softmaxes (TensorRT#2709: F1 from 0.85 to 0.15), so those are named here and kept.

Source: docs.nvidia.com/deeplearning/tensorrt/latest, "Migrating from TensorRT 10.x to 11.x".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vlkd_hub.errors import InvalidInputError

__all__ = ["FP32_OPERATORS", "LOW_TYPES", "fp32_nodes", "to_mixed_precision"]

LOW_TYPES: Mapping[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LARGEST: Mapping[int, float] = {TensorProto.FLOAT16: 65504.0, TensorProto.BFLOAT16: 3.3e38}

FP32_OPERATORS = frozenset(
    {
        # Sums of many terms, and quotients and exponentials of them.
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "RMSNormalization",
        "Softmax",
        "CumSum",
        "Exp",
        "Log",
        "Pow",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Sqrt",
        # Their scale decides the type of what they give.
        "DequantizeLinear",
        "QuantizeLinear",
        # Float only by accident: what they make or take is a shape, a mask or a position.
        "Cast",
        "Constant",
        "ConstantOfShape",
        "IsNaN",
        "Range",
        "Resize",
    }
)


def fp32_nodes(model: onnx.ModelProto) -> set[str]:
    """First output of every node that must stay in fp32: layer norms, softmaxes, and what stands around them.

    Besides :data:`FP32_OPERATORS` these are: the sum of scores and mask before a softmax (the mask is -3e38), the
    choice between mask values, and the division by a vector's length after a ``ReduceL2``.
    """
    nodes = model.graph.node
    producer = {name: node for node in nodes for name in node.output}
    kept = {node.output[0] for node in nodes if node.op_type in FP32_OPERATORS}
    for node in nodes:
        before = [producer[name] for name in node.input if name in producer]
        if node.op_type == "Softmax":
            kept |= {some.output[0] for some in before if some.op_type in ("Add", "Where")}
        if node.op_type == "Where" or (node.op_type == "Div" and _comes_from(before[1:], "ReduceL2", producer)):
            kept.add(node.output[0])
    return kept


def _comes_from(nodes: list[onnx.NodeProto], operator: str, producer: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether one of ``nodes`` is ``operator``, or only clips and spreads out what one gave."""
    passing = ("Clip", "Expand", "Max", "Reshape", "Unsqueeze")
    for node in nodes:
        while node.op_type in passing and node.input and node.input[0] in producer:
            node = producer[node.input[0]]
        if node.op_type == operator:
            return True
    return False


def to_mixed_precision(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The graph with its products in half precision; inputs and outputs stay fp32.

    Args:
        model: all floats fp32, without subgraphs; it is left as it is.
        precision: ``"fp16"`` or ``"bf16"``.

    Raises:
        InvalidInputError: another precision, a graph with branches or loops, or a weight too large for fp16.
    """
    if precision not in LOW_TYPES:
        raise InvalidInputError(f"Mixed precision is fp16 or bf16, got {precision!r}.")
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    if any(item.HasField("g") for node in typed.graph.node for item in node.attribute):
        raise InvalidInputError("The graph holds an If, Loop or Scan; split it first (see decoder_graphs).")
    return _Retyped(typed, LOW_TYPES[precision]).build()


class _Retyped:
    """Walks the nodes in order, notes the type that every tensor now has, and puts a ``Cast`` where two differ."""

    def __init__(self, model: onnx.ModelProto, low: int) -> None:
        self.model = model
        self.low = low
        graph = model.graph
        self.weights = {item.name: item for item in graph.initializer}
        self.types = {item.name: item.data_type for item in graph.initializer}
        for item in (*graph.input, *graph.value_info, *graph.output):
            self.types[item.name] = item.type.tensor_type.elem_type
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[tuple[str, int], str] = {}
        self.extra: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        graph = self.model.graph
        kept = fp32_nodes(self.model)
        outputs = {item.name for item in graph.output}
        for node in graph.node:
            floats = [name for name in (*node.input, *node.output) if self.types.get(name) == TensorProto.FLOAT]
            low = [name for name in (*node.input, *node.output) if self.types.get(name) == self.low]
            if (floats or low) and node.output[0] not in kept:
                self._lower(node, outputs)
            else:
                self._keep(node)
        used = {name for node in self.nodes for name in node.input} | outputs
        weights = [item for item in (*graph.initializer, *self.extra) if item.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(weights)
        inferred = onnx.shape_inference.infer_shapes(self.model, strict_mode=True)
        onnx.checker.check_model(inferred)
        return inferred

    def _keep(self, node: onnx.NodeProto) -> None:
        for index, name in enumerate(node.input):
            if self.types.get(name) == self.low:
                node.input[index] = self._as(name, TensorProto.FLOAT)
        self.nodes.append(node)

    def _lower(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        for index, name in enumerate(node.input):
            if self.types.get(name) == TensorProto.FLOAT:
                node.input[index] = self._as(name, self.low)
        casts = []
        for index, name in enumerate(node.output):
            if self.types.get(name) != TensorProto.FLOAT:
                continue
            if name in outputs:
                node.output[index] = f"{name}_low"
                self.types[f"{name}_low"] = self.low
                self.made[name, self.low] = f"{name}_low"
                casts.append(self._cast(f"{name}_low", name, TensorProto.FLOAT))
            else:
                self.types[name] = self.low
        self.nodes.append(node)
        self.nodes += casts

    def _as(self, name: str, wanted: int) -> str:
        """Name of the tensor in another type; made once."""
        if (name, wanted) not in self.made:
            self.made[name, wanted] = f"{name}_{'fp32' if wanted == TensorProto.FLOAT else 'low'}"
            if name in self.weights:
                self.extra.append(self._converted(self.weights[name], self.made[name, wanted]))
            else:
                self.nodes.append(self._cast(name, self.made[name, wanted], wanted))
        return self.made[name, wanted]

    def _converted(self, weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
        values = numpy_helper.to_array(weight)
        finite = values[np.isfinite(values)]
        if finite.size and float(np.abs(finite).max()) > LARGEST[self.low]:
            raise InvalidInputError(
                f"The weight {weight.name!r} holds {float(np.abs(finite).max()):.3g}, which fp16 cannot. Use bf16."
            )
        dtype = helper.tensor_dtype_to_np_dtype(self.low)
        return numpy_helper.from_array(values.astype(dtype), name)

    @staticmethod
    def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=kind)
