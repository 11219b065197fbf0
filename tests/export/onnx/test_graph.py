"""One ONNX file from one module: checked, without copies of weights, without traces of the machine that made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from vlkd_export.onnx import graph
from vlkd_export.onnx.graph import GraphSpec, export_graph, merge_equal_initializers
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.external_data import check_external_data, external_data


def spec(module: nn.Module) -> GraphSpec:
    return GraphSpec(
        name="linear",
        module=module,
        example=(torch.rand(2, 4),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["x"],
        output_names=["y"],
    )


def test_a_graph_for_any_batch(tmp_path: Path) -> None:
    """Named inputs and outputs, the opset that was asked for, the same numbers."""
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    path = export_graph(spec(module), tmp_path, 18)
    assert [(item.domain, item.version) for item in onnx.load(path).opset_import] == [("", 18)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        x = torch.rand(batch, 4)
        np.testing.assert_allclose(session.run(["y"], {"x": x.numpy()})[0], module(x).detach().numpy(), atol=1e-6)


def test_weights_above_the_limit_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protobuf ends at 2 GiB; what lies beside is named so that the runtime allows it."""
    monkeypatch.setattr(graph, "MAX_INLINE_BYTES", 1000)
    path = export_graph(spec(nn.Linear(4, 600)), tmp_path, 18)
    assert {item.location for item in external_data(path)} == {"linear.onnx.data"}
    check_external_data(path, {"linear.onnx.data"})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((5, 4), np.float32)})[0].shape == (5, 600)


def test_no_trace_of_the_exporting_machine(tmp_path: Path) -> None:
    """The tracer notes source files with their full paths on every node; they must not travel."""
    data = export_graph(spec(nn.Linear(4, 3)), tmp_path, 18).read_bytes()
    assert b"site-packages" not in data and b".py" not in data


def test_the_bundle_holds_no_path_of_this_machine(tiny_bundle: Path, repo_root: Path) -> None:
    """The same for all files of a bundle."""
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"site-packages" not in data and str(repo_root).encode() not in data, path


def test_equal_weights_are_kept_once() -> None:
    """A tied embedding traced under two names would double the file."""
    weights = [
        onnx.numpy_helper.from_array(np.full((2, 2), value, np.float32), name)
        for name, value in (("a", 1), ("b", 1), ("c", 2))
    ]
    weights.append(onnx.numpy_helper.from_array(np.full((4,), 1, np.float32), "same bytes, other shape"))
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("MatMul", ["p", "b"], ["q"]),
        helper.make_node("MatMul", ["q", "c"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [info("x", TensorProto.FLOAT, [2, 2])],
            [info("y", TensorProto.FLOAT, [2, 2])],
            weights,
        )
    )
    assert merge_equal_initializers(made) == 1
    assert [item.name for item in made.graph.initializer] == ["a", "c", "same bytes, other shape"]
    assert [list(node.input) for node in made.graph.node] == [["x", "a"], ["p", "a"], ["q", "c"]]
    onnx.checker.check_model(made)


def test_what_cannot_be_traced_is_named(tmp_path: Path) -> None:
    """With the graph's name, since a student has four."""

    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(InvalidInputError, match="graph 'linear'"):
        export_graph(spec(Branches()), tmp_path, 18)
