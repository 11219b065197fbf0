"""A step of clean-up stays only if it changes no number and costs no time; what was dropped is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_export.onnx import clean_up as module
from vlkd_export.onnx.clean_up import STEPS, clean_up
from vlkd_hub.runtime.sessions import open_session

FEEDS = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}


def model(scale: float = 2.0, useless: int = 3) -> onnx.ModelProto:
    """``y = scale * x`` with ``useless`` identities on the way."""
    nodes = [helper.make_node("Identity", [f"i{n}" if n else "x"], [f"i{n + 1}"]) for n in range(useless)]
    nodes.append(helper.make_node("Mul", [f"i{useless}" if useless else "x", "scale"], ["y"]))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.float32(scale), "scale")]
    graph = helper.make_graph(nodes, "graph", info[:1], info[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save_model(model(), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.fixture
def equally_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes as long as before: these tests ask about numbers and files, not about a busy machine's clock."""
    monkeypatch.setattr(module, "median_times", lambda sessions, feeds: (1.0, 1.0))


def with_step(monkeypatch: pytest.MonkeyPatch, step: Callable[[Path], onnx.ModelProto]) -> None:
    monkeypatch.setitem(STEPS, "step", step)


@pytest.mark.usefixtures("equally_fast")
def test_a_good_step_is_kept(path: Path) -> None:
    """onnxslim takes out what does nothing; names and answers stay, and no file is left over."""
    before = open_session(path).run(None, FEEDS)[0]
    (report,) = clean_up(path, FEEDS, ("slim",), 1e-5)
    assert report.kept and report.nodes == (4, 1) and report.scaled == 0 and report.ms is not None
    np.testing.assert_array_equal(open_session(path).run(["y"], FEEDS)[0], before)
    assert [file.name for file in path.parent.iterdir()] == ["graph.onnx"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda path: model(scale=2.01, useless=0), "outputs move by 0.0.*allowed is 1e-05"),
        (lambda path: model(), "changes nothing"),
        (lambda path: 1 / 0, "failed: ZeroDivisionError"),
        (lambda path: helper.make_model(helper.make_graph([], "empty", [], [])), "failed|cannot"),
    ],
    ids=["other numbers", "nothing", "fails", "no graph"],
)
def test_a_bad_step_is_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[[Path], Any], reason: str
) -> None:
    """And the file is byte for byte what it was."""
    with_step(monkeypatch, step)
    data = path.read_bytes()
    (report,) = clean_up(path, FEEDS, ("step",), 1e-5)
    assert not report.kept
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(report.reason)
    assert path.read_bytes() == data and [file.name for file in path.parent.iterdir()] == ["graph.onnx"]


def test_a_slower_step_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer nodes are no end in themselves."""

    class Slow:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, *args: Any) -> Any:
            time.sleep(0.002)
            return self.session.run(*args)

    def open_slowly(file: Path, **options: Any) -> Any:
        session = open_session(file, **options)
        return Slow(session) if file.parent != path.parent else session

    monkeypatch.setattr(module, "open_session", open_slowly)
    with_step(monkeypatch, lambda path: model(useless=0))
    (report,) = clean_up(path, FEEDS, ("step",), 1e-5)
    assert not report.kept and report.reason.startswith("slower: ")
    assert report.ms is not None and report.ms[1] > report.ms[0] + 1


@pytest.mark.parametrize(
    ("before", "after", "kept"), [(10.0, 10.4, True), (10.0, 10.6, False), (0.005, 0.04, True), (0.005, 0.06, False)]
)
def test_what_counts_as_slower(
    path: Path, monkeypatch: pytest.MonkeyPatch, before: float, after: float, kept: bool
) -> None:
    """More than the noise of two runs of one graph, and more than the clock can tell."""
    monkeypatch.setattr(module, "median_times", lambda sessions, feeds: (before, after))
    (report,) = clean_up(path, FEEDS, ("slim",), 1e-5)
    assert report.kept is kept and report.reason.startswith("slower: ") is not kept


@pytest.mark.usefixtures("equally_fast")
def test_weights_beside_the_graph_move_with_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 2 GiB the weights are a file of their own, and both are replaced together."""
    from vlkd_export.onnx import graph

    monkeypatch.setattr(graph, "MAX_INLINE_BYTES", 10)
    big = model()
    big.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4,), 2, np.float32).repeat(1), "scale"))
    graph.save_graph(big, path)
    (report,) = clean_up(path, FEEDS, ("slim",), 1e-5)
    assert report.kept, report.reason
    session = open_session(path, allowed_external={file.name for file in path.parent.iterdir()})
    np.testing.assert_array_equal(session.run(None, FEEDS)[0], 2 * FEEDS["x"])


@pytest.mark.usefixtures("equally_fast")
def test_transformer_blocks_are_fused(tiny_bundle: Path, tmp_path: Path) -> None:
    """O2 puts a layer norm and the sum before it into one operator of onnxruntime's own."""
    path = tmp_path / "text_encoder.onnx"
    path.write_bytes((tiny_bundle / "onnx" / path.name).read_bytes())
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    feeds = {"input_ids": np.array([[2, 5, 6, 3], [2, 7, 0, 0]]), "attention_mask": mask}
    fused = STEPS["fuse"](path)
    assert any(node.domain == "com.microsoft" for node in fused.graph.node)
    assert any(item.domain == "com.microsoft" for item in fused.opset_import)
    (report,) = clean_up(path, feeds, ("fuse",), 1e-5)
    assert report.scaled is not None and report.scaled <= 1e-5 and report.nodes is not None
    assert report.nodes[1] < report.nodes[0]
