"""A session over an engine: the calls that TensorRT wants, in its order, with onnxruntime's interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError
from vlkd_hub.runtime.tensorrt.engine_session import EngineSession, load_tensorrt


@pytest.fixture
def engine(tmp_path: Path) -> bytes:
    """What the fake builder makes of ``y = x + x; z = x * x``."""
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Mul", ["x", "x"], ["z"])],
        "g",
        [rows("x", TensorProto.FLOAT, ["batch", 3])],
        [rows(name, TensorProto.FLOAT, ["batch", 3]) for name in "yz"],
    )
    path = tmp_path / "g.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return json.dumps({"path": str(path), "profile": {"x": [[1, 3], [2, 3], [4, 3]]}}).encode()


@pytest.mark.parametrize("version", ["10.15.1", "11.4.0"])
def test_runs_like_a_session(fake_gpu: Any, engine: bytes, version: str) -> None:
    """Larger, then smaller: memory is taken once, and no value of the former run is left."""
    fake_gpu(version)
    session = EngineSession(engine, "g")
    for rows in (1, 4, 2):
        x = np.random.default_rng(rows).random((rows, 3), dtype=np.float32)
        y, z = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, x + x)
        np.testing.assert_array_equal(z, x * x)
    only = session.run(["z"], {"x": x.astype(np.float64)})
    np.testing.assert_array_equal(only[0], z)
    assert session.get_providers() == ["TensorRT"]


def test_inputs_that_are_no_block_of_memory(fake_gpu: Any, engine: bytes) -> None:
    """A transposed view has its values in another order in memory than in its shape."""
    fake_gpu()
    view = np.arange(6, dtype=np.float32).reshape(3, 2).T
    np.testing.assert_array_equal(EngineSession(engine, "g").run(["y"], {"x": view})[0], view + view)


def test_what_the_engine_was_not_built_for(fake_gpu: Any, engine: bytes) -> None:
    fake_gpu()
    session = EngineSession(engine, "g")
    with pytest.raises(InvalidInputError, match=r"g was built for x from \(1, 3\) to \(4, 3\) and got \(5, 3\)"):
        session.run(None, {"x": np.zeros((5, 3), np.float32)})
    with pytest.raises(InvalidInputError, match="no output 'w'"):
        session.run(["w"], {"x": np.zeros((1, 3), np.float32)})


def test_an_engine_of_another_version(fake_gpu: Any) -> None:
    fake_gpu()
    with pytest.raises(BundleError, match="another version or GPU"):
        EngineSession(b"of another version", "g")


def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the library and the command."""
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r"vlkd-hub\[tensorrt\]"):
        load_tensorrt()


def test_a_version_that_is_not_known(fake_gpu: Any) -> None:
    """TensorRT 8 has none of the calls; 12 may have others."""
    fake_gpu("8.6.1")
    with pytest.raises(InvalidInputError, match="TensorRT 8.6.1 is installed"):
        load_tensorrt()
