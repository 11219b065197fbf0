"""A session is what was asked for, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError
from vlkd_hub.runtime.sessions import available_cpus, node_placement, open_session


def test_the_threads_that_were_asked_for(tiny_bundle: Path) -> None:
    """And they do not spin: the sessions of a student take turns on the same processors."""
    options = open_session(tiny_bundle / "onnx" / "decoder.onnx", threads=1).get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    options = open_session(tiny_bundle / "onnx" / "decoder.onnx").get_session_options()
    assert options.intra_op_num_threads == min(available_cpus(), 8)


def test_a_missing_provider_is_an_error(tiny_bundle: Path) -> None:
    """onnxruntime alone would warn and run on the CPU."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(MissingDependencyError, match="CUDAExecutionProvider.*onnxruntime-gpu"):
        open_session(tiny_bundle / "onnx" / "decoder.onnx", providers=["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_a_provider_that_loads_but_does_not_serve_is_an_error(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu on a machine without a GPU lists CUDA as available and hands out a CPU session."""
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers, **_: real(path, options, providers=both[1:])
    )
    with pytest.raises(MissingDependencyError, match="fell back to .*CPUExecutionProvider"):
        open_session(tiny_bundle / "onnx" / "decoder.onnx", providers=both)


@pytest.mark.parametrize("providers", [[], ["GpuProvider"]])
def test_unknown_providers_are_refused(providers: list[str], tiny_bundle: Path) -> None:
    """A slip of the pen must not become the CPU."""
    with pytest.raises(InvalidInputError, match="provider"):
        open_session(tiny_bundle / "onnx" / "decoder.onnx", providers=providers)


def test_threads_below_one_are_refused(tiny_bundle: Path) -> None:
    """0 means 'all' to onnxruntime and 'none' to a person."""
    with pytest.raises(InvalidInputError, match="threads must be 1 or more"):
        open_session(tiny_bundle / "onnx" / "decoder.onnx", threads=0)


def test_a_file_that_is_no_graph_is_told(tmp_path: Path) -> None:
    """Well-formed protobuf, but not a model."""
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes([8, 9]))
    with pytest.raises(BundleError, match="cannot open"):
        open_session(path)


def test_a_provider_with_options(tiny_bundle: Path) -> None:
    """As TensorRT and CUDA need them; the name is checked all the same."""
    entry = ("CPUExecutionProvider", {})
    assert open_session(tiny_bundle / "onnx" / "decoder.onnx", providers=[entry]).get_providers() == [entry[0]]
    with pytest.raises(InvalidInputError, match="no provider 'GpuProvider'"):
        open_session(tiny_bundle / "onnx" / "decoder.onnx", providers=[("GpuProvider", {})])


def test_where_the_nodes_ran(tiny_bundle: Path) -> None:
    """Every node of the optimised graph, once however often it ran."""
    feeds = {"context": np.zeros((1, 3, 16), np.float32)}
    placed = node_placement(tiny_bundle / "onnx" / "cross_attention.onnx", feeds)
    assert set(placed) == {"CPUExecutionProvider"}
    assert placed["CPUExecutionProvider"]["MatMul"] == 4
