"""Every graph that is exported, held against what onnx-tensorrt publishes that it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_export.tensorrt.decoder_graphs import split_decoder
from vlkd_export.tensorrt.operator_support import check_operators, load_table, require_supported
from vlkd_export.tensorrt.precision import to_mixed_precision
from vlkd_hub.errors import InvalidInputError


def graph_of(
    node: onnx.NodeProto, kind: int = TensorProto.FLOAT, opset: int = 18, **constants: object
) -> onnx.ModelProto:
    rows = helper.make_tensor_value_info
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = [rows(name, kind, [2, 3, 4, 4]) for name in node.input if name and name not in constants]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.own", 1)])


def test_the_table_says_where_it_is_from() -> None:
    table = load_table()
    assert table["source"].startswith("https://github.com/onnx/onnx-tensorrt/blob/")
    assert table["tensorrt"] == "10.15" and table["opset"] == [9, 24]
    assert len(table["operators"]) == 200
    assert table["operators"]["MatMul"]["types"] == ["FP32", "FP16", "BF16"]
    assert table["operators"]["MatMulInteger"]["types"] == []


def test_every_exported_graph_is_read(tiny_bundle: Path) -> None:
    """All that lies in a bundle, whichever graphs its exporter writes."""
    paths = sorted((tiny_bundle / "onnx").rglob("*.onnx"))
    assert {path.stem for path in paths} >= {"image_encoder", "text_encoder", "cross_attention", "decoder"}
    found = {path.name: [str(finding) for finding in check_operators(onnx.load(path))] for path in paths}
    assert found == {path.name: [] for path in paths}


def test_every_graph_for_tensorrt_is_read(tiny_graphs: dict[str, onnx.ModelProto]) -> None:
    """Split and lowered, as TensorRT gets them."""
    for model in (dict(tiny_graphs) | split_decoder(tiny_graphs["decoder"])).values():
        for precision in ("fp16", "bf16"):
            assert check_operators(to_mixed_precision(model, precision)) == []


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (graph_of(helper.make_node("Det", ["x"], ["y"])), "not supported"),
        (graph_of(helper.make_node("Own", ["x"], ["y"], domain="com.own")), "plugin"),
        (graph_of(helper.make_node("Future", ["x"], ["y"])), "does not know"),
        (graph_of(helper.make_node("Exp", ["x"], ["y"]), TensorProto.INT64), "its data is INT64"),
        (graph_of(helper.make_node("Relu", ["x"], ["y"]), opset=25), "outside 9 to 24"),
        (graph_of(helper.make_node("ReduceSum", ["x", "axes"], ["y"]), TensorProto.INT64), "axes must be a constant"),
        (graph_of(helper.make_node("Unsqueeze", ["x", "axes"], ["y"]), TensorProto.INT64), "axes must be a constant"),
        (
            graph_of(helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic"), s=np.ones(4, np.float32)),
            "mode 'cubic'",
        ),
        (
            graph_of(
                helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1), s=np.ones(4, np.float32)
            ),
            "antialiasing",
        ),
        (
            graph_of(helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), s=np.float32(1), z=np.int8(3)),
            "zero point",
        ),
        (
            graph_of(helper.make_node("LayerNormalization", ["x", "s"], ["y", "mean"]), s=np.ones(4, np.float32)),
            "only its first output",
        ),
        (graph_of(helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="add")), "reduction"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_read_is_found(model: onnx.ModelProto, reason: str) -> None:
    """One graph for each rule: a rule that never speaks is no rule."""
    assert any(reason in str(finding) for finding in check_operators(model))


def test_the_same_with_what_it_wants() -> None:
    """And no rule speaks where all is well."""
    for node, constants in (
        (helper.make_node("ReduceSum", ["x", "axes"], ["y"]), {"axes": [1]}),
        (helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear"), {"s": np.ones(4, np.float32)}),
        (helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), {"s": np.float32(1), "z": np.int8(0)}),
        (helper.make_node("LayerNormalization", ["x", "s"], ["y"]), {"s": np.ones(4, np.float32)}),
    ):
        assert check_operators(graph_of(node, **constants)) == []


def test_the_refusal_names_the_first_ones() -> None:
    with pytest.raises(InvalidInputError, match=r"TensorRT 10.15 does not read g: Det"):
        require_supported(graph_of(helper.make_node("Det", ["x"], ["y"])), "g")
