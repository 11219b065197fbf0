"""Q/DQ nodes as TensorRT wants them, and graphs that still answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_export.tensorrt.operator_support import check_operators
from vlkd_export.tensorrt.quantization import insert_quantization
from vlkd_hub.errors import InvalidInputError

RANDOM = np.random.default_rng(0)
CALLS = [{"x": RANDOM.standard_normal((rows, 16)).astype(np.float32)} for rows in (2, 2, 3, 2, 2, 2)]
NEW = np.random.default_rng(9).standard_normal((2, 16)).astype(np.float32)


def model() -> onnx.ModelProto:
    """Two products with weights around a product of activations and a softmax."""
    rows = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b1"], ["b"], name="bias"),
        helper.make_node("Transpose", ["b"], ["bt"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["b", "bt"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["p"], name="softmax"),
        helper.make_node("MatMul", ["p", "b"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "w2"], ["y"], name="last"),
    ]
    weights = [
        numpy_helper.from_array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.3, name)
        for seed, (name, shape) in enumerate({"w1": (16, 8), "b1": (8,), "w2": (8, 4)}.items())
    ]
    graph = helper.make_graph(
        nodes, "g", [rows("x", TensorProto.FLOAT, ["batch", 16])], [rows("y", TensorProto.FLOAT, ["batch", 4])], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module", params=["int8", "fp8"])
def quantized(request: pytest.FixtureRequest) -> tuple[str, onnx.ModelProto]:
    return request.param, insert_quantization(model(), request.param, CALLS)


def test_only_products_with_weights(quantized: tuple[str, onnx.ModelProto]) -> None:
    """Scores and mix keep their floats, and no bias is an integer."""
    precision, graph = quantized
    producer = {name: node for node in graph.graph.node for name in node.output}
    kind = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}[precision]
    types = {item.name: item.data_type for item in graph.graph.initializer}
    found = {
        node.name: [producer[name].op_type if name in producer else "" for name in node.input]
        for node in graph.graph.node
        if node.op_type == "MatMul"
    }
    assert found["first"] == found["last"] == ["DequantizeLinear"] * 2
    assert "DequantizeLinear" not in found["scores"] + found["mix"]
    weights = [types[n.input[0]] for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in types]
    assert weights == [kind, kind]


def test_tensorrt_reads_it(quantized: tuple[str, onnx.ModelProto]) -> None:
    """Zero points of 0 above all; the parser takes no others."""
    assert check_operators(quantized[1]) == []


def test_it_answers_nearly_the_same(quantized: tuple[str, onnx.ModelProto]) -> None:
    """On input that the ranges were not taken from."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected, found = (
        onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, {"x": NEW}
        )[0]
        for graph in (model(), quantized[1])
    )
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < difference < 0.1


def test_what_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="needs recorded inputs"):
        insert_quantization(model(), "int8", [])
    with pytest.raises(InvalidInputError, match="int8 or fp8"):
        insert_quantization(model(), "fp16", CALLS)


def test_dynamic_int8_is_not_for_tensorrt(tmp_path: Path) -> None:
    """What serves well on a CPU is refused in words before a GPU is ever asked."""
    from onnxruntime.quantization import quantize_dynamic

    onnx.save(model(), tmp_path / "a.onnx")
    quantize_dynamic(tmp_path / "a.onnx", tmp_path / "b.onnx")
    reasons = {finding.operator for finding in check_operators(onnx.load(tmp_path / "b.onnx"))}
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= reasons
