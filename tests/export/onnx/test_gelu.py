"""onnxruntime must find the GELU that torch writes, or every one costs five passes over its tensor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from vlkd_export.onnx.gelu import order_gelu
from vlkd_export.onnx.graph import GraphSpec, export_graph


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    spec = GraphSpec(
        name="gelu",
        module=nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU()),
        example=(torch.rand(2, 4),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["x"],
        output_names=["y"],
    )
    return export_graph(spec, tmp_path_factory.mktemp("gelu"), 18)


def optimised(path: Path) -> tuple[Counter[str], onnxruntime.InferenceSession]:
    """What onnxruntime makes of the graph, and the session."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimised"))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return Counter(node.op_type for node in nodes), session


def test_every_gelu_is_found(path: Path, tmp_path: Path) -> None:
    """And gives the same numbers to the last bit before the fusion, nearly the same after it."""
    model = onnx.load(path)
    assert order_gelu(model) == 2
    ordered = tmp_path / "ordered.onnx"
    onnx.save_model(model, ordered)
    onnx.checker.check_model(ordered, full_check=True)
    before, plain = optimised(path)
    after, fused = optimised(ordered)
    assert before["Erf"] == 2 and after["Erf"] == 0 and after["Gelu"] + after["BiasGelu"] == 2
    x = np.random.RandomState(0).randn(5, 4).astype(np.float32) * 3
    np.testing.assert_allclose(fused.run(None, {"x": x})[0], plain.run(None, {"x": x})[0], atol=1e-6)
    assert order_gelu(model) == 0


def test_what_only_looks_like_it_is_left_alone() -> None:
    """A half that others read too, or that is an output, stays where it is."""
    helper, info = onnx.helper, onnx.helper.make_tensor_value_info
    nodes = [
        helper.make_node("Erf", ["x"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["s"]),
        helper.make_node("Mul", ["half", "s"], ["h"]),
        helper.make_node("Mul", ["x", "h"], ["y"]),
    ]
    weights = [onnx.numpy_helper.from_array(np.float32(v), n) for n, v in (("one", 1.0), ("half", 0.5))]
    for outputs in (["y", "h"], ["y"]):
        values = [info(name, onnx.TensorProto.FLOAT, [3]) for name in outputs]
        graph = helper.make_graph(nodes, "g", [info("x", onnx.TensorProto.FLOAT, [3])], values, weights)
        model = helper.make_model(graph)
        assert order_gelu(model) == (0 if "h" in outputs else 1)
