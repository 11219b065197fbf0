"""What TensorRT's ONNX parser reads, from the table that onnx-tensorrt publishes, and whether a graph keeps to it.

The table is committed as data (``operators.json``) with its address and version, so that graphs can be held against it
where no TensorRT is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from vlkd_hub.errors import InvalidInputError

__all__ = ["Finding", "check_operators", "load_table", "require_supported"]

STANDARD_DOMAINS = ("", "ai.onnx")
TYPE_NAMES: Mapping[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT8E4M3FN: "FP8",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
CAST_DOWN = {TensorProto.DOUBLE: "FP32"}
"""The parser turns doubles into floats."""


@dataclass(frozen=True)
class Finding:
    """One node that TensorRT would refuse."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} ({self.node}): {self.reason}"


@cache
def load_table() -> dict[str, Any]:
    """``source``, ``tensorrt``, ``opset`` (lowest and highest) and ``operators``: name -> types and restriction."""
    text = files("vlkd_export.tensorrt").joinpath("operators.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def check_operators(model: onnx.ModelProto) -> list[Finding]:
    """Every node that the table does not promise, with the reason; empty where all are read.

    Looked at: the opset, the operator, the types of its data, and of the restrictions those that a graph tells by
    itself (constant axes, modes of a resize, zero points, outputs that are not read).
    """
    table = load_table()
    typed = onnx.shape_inference.infer_shapes(model)
    view = _View(typed)
    found = [
        Finding("graph", "opset", f"{item.version} is outside {table['opset'][0]} to {table['opset'][1]}")
        for item in typed.opset_import
        if item.domain in STANDARD_DOMAINS and not table["opset"][0] <= item.version <= table["opset"][1]
    ]
    for node in typed.graph.node:
        name = node.name or (node.output[0] if node.output else "unnamed")
        found += [Finding(name, node.op_type, reason) for reason in _reasons(node, view, table["operators"])]
    return found


def require_supported(model: onnx.ModelProto, graph: str) -> None:
    """Refuse a graph that TensorRT would refuse.

    Raises:
        InvalidInputError: some node is not read; the message names the first ones.
    """
    found = check_operators(model)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InvalidInputError(
            f"TensorRT {load_table()['tensorrt']} does not read {graph}: {'; '.join(map(str, found[:3]))}{more}. "
            "Export the student in fp32 and let the precision be chosen for TensorRT."
        )


class _View:
    """Types and constants of a graph's tensors."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.constants: dict[str, onnx.TensorProto] = {item.name: item for item in graph.initializer}
        self.types = {item.name: item.data_type for item in graph.initializer}
        for item in (*graph.input, *graph.value_info, *graph.output):
            self.types[item.name] = item.type.tensor_type.elem_type
        for node in graph.node:
            if node.op_type == "Constant":
                value = next((item.t for item in node.attribute if item.name == "value"), None)
                if value is not None:
                    self.constants[node.output[0]] = value
        self.read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}

    def is_zero(self, name: str) -> bool:
        """Whether a constant holds nothing but zeros."""
        value = self.constants.get(name)
        if value is None:
            return False
        if value.data_type == TensorProto.FLOAT8E4M3FN:
            return not any(value.raw_data) and not any(value.int32_data)
        return not numpy_helper.to_array(value).any()


def _reasons(node: onnx.NodeProto, view: _View, operators: Mapping[str, Any]) -> list[str]:
    if node.domain not in STANDARD_DOMAINS:
        return [f"it belongs to {node.domain!r}, which only a plugin brings"]
    entry = operators.get(node.op_type)
    if entry is None:
        return ["the table does not know it"]
    if not entry["types"]:
        return ["it is not supported"]
    reasons = []
    # The first input is the data; for Where it is the condition, and Constant has none.
    data = node.output[:1] if node.op_type in ("Constant", "ConstantOfShape", "Where", "Range") else node.input[:1]
    for name in data:
        kind = view.types.get(name, TensorProto.UNDEFINED)
        said = CAST_DOWN.get(kind) or TYPE_NAMES.get(kind)
        if kind != TensorProto.UNDEFINED and said not in entry["types"]:
            label = said or TensorProto.DataType.Name(kind)
            reasons.append(f"its data is {label}, and it takes {', '.join(entry['types'])}")
    rule = _RULES.get(node.op_type)
    return reasons + ([reason] if rule and (reason := rule(node, view)) else [])


Rule = Callable[[onnx.NodeProto, _View], str | None]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((item for item in node.attribute if item.name == name), None)
    value = default if found is None else onnx.helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def _constant(index: int, what: str) -> Rule:
    def rule(node: onnx.NodeProto, view: _View) -> str | None:
        absent = len(node.input) <= index or not node.input[index]
        return None if absent or node.input[index] in view.constants else f"{what} must be a constant"

    return rule


def _zero_point(node: onnx.NodeProto, view: _View) -> str | None:
    absent = len(node.input) < 3 or not node.input[2]
    return None if absent or view.is_zero(node.input[2]) else "its zero point must be 0"


def _first_output_only(node: onnx.NodeProto, view: _View) -> str | None:
    return "only its first output is supported" if any(name in view.read for name in node.output[1:] if name) else None


def _resize(node: onnx.NodeProto, view: _View) -> str | None:
    modes = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
    if _attribute(node, "coordinate_transformation_mode", "half_pixel") not in modes:
        return "its coordinates are of a mode that is not supported"
    if _attribute(node, "mode", "nearest") not in ("nearest", "linear"):
        return f"mode {_attribute(node, 'mode', 'nearest')!r} is not supported"
    if _attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return "its aspect ratio policy is not supported"
    return "antialiasing is not supported" if _attribute(node, "antialias", 0) else None


def _scatter(node: onnx.NodeProto, view: _View) -> str | None:
    return None if _attribute(node, "reduction", "none") == "none" else "a reduction is not supported"


_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()
_RULES: dict[str, Rule] = {
    **{f"Reduce{name}": _constant(1, "axes") for name in _REDUCTIONS},
    "CumSum": _constant(1, "axis"),
    "DequantizeLinear": _zero_point,
    "LayerNormalization": _first_output_only,
    "MaxPool": _first_output_only,
    "QuantizeLinear": _zero_point,
    "Resize": _resize,
    "ScatterND": _scatter,
    "Squeeze": _constant(1, "axes"),
    "Unsqueeze": _constant(1, "axes"),
}
