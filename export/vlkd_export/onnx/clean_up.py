"""Steps that make an exported graph smaller or faster, each kept only if its numbers and its speed hold.

``slim`` (onnxslim) folds constants and drops what nothing reads. ``gelu`` writes GELU as onnxruntime recognises it, in
standard operators still (:mod:`vlkd_export.onnx.gelu`). ``fuse`` (onnxruntime's transformer optimizer) puts
groups of operators together into onnxruntime's own ones, which no other runtime knows.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vlkd_export.onnx.gelu import order_gelu
from vlkd_export.onnx.graph import save_graph
from vlkd_hub._optional import require
from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime.sessions import open_session

__all__ = ["SLOWER", "STEPS", "StepReport", "clean_up", "median_times"]

OWN_DOMAIN = "com.microsoft"
"""Of onnxruntime's own operators."""
FOLDED_BYTES = 1 << 16
"""Of constants: a transposed copy of the word table beside the table itself would double a decoder's file."""
RUNS = 15
SLOWER = 1.05
"""A graph may take so much longer and still count as equally fast: two runs of one graph differ by that."""
RESOLUTION_MS = 0.05
"""Two medians nearer than this cannot be told apart: a call of a tiny graph is all dispatch, and that jitters."""
LARGER = 1.01
SMALL_CHANGE = 4096
"""Bytes; names of operators cost some."""

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did to one graph."""

    graph: str
    step: str
    kept: bool
    reason: str
    """Why it was kept or dropped."""
    nodes: tuple[int, int] | None = None
    """Before and after; None where the step failed."""
    bytes: tuple[int, int] | None = None
    ms: tuple[float, float] | None = None
    """Medians of one run on the graph's example, taken in turns."""
    scaled: float | None = None
    """Largest difference of an output from before, relative to its largest value if that is above 1."""


def clean_up(path: Path, feeds: Feeds, steps: tuple[str, ...], atol: float) -> list[StepReport]:
    """Try each step on the graph at ``path``; the file is replaced where the step is kept.

    Args:
        path: a checked ONNX file.
        feeds: an ordinary input, to measure on.
        steps: names in :data:`STEPS`, in order.
        atol: largest difference that a step may make.

    Returns:
        One report a step.
    """
    return [_try(path, feeds, step, atol) for step in steps]


def _try(path: Path, feeds: Feeds, step: str, atol: float) -> StepReport:
    folder = path.parent / f"{path.stem}-{step}"
    folder.mkdir()
    try:
        return _measured(path, folder / path.name, feeds, step, atol)
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _measured(path: Path, candidate: Path, feeds: Feeds, step: str, atol: float) -> StepReport:
    before = onnx.load(path)
    try:
        after = STEPS[step](path)
        if _operators(after) == _operators(before):
            return StepReport(graph=path.stem, step=step, kept=False, reason="it changes nothing")
        save_graph(after, candidate)
        external = {file.name for file in candidate.parent.iterdir()} | {file.name for file in path.parent.iterdir()}
        sessions = [open_session(file, allowed_external=external) for file in (path, candidate)]
        scaled = _difference(*(session.run(None, feeds) for session in sessions))
    except VlkdError as error:
        return StepReport(graph=path.stem, step=step, kept=False, reason=str(error))
    except Exception as error:  # the optimizers raise whatever their passes raise; the graph before them is still good
        return StepReport(graph=path.stem, step=step, kept=False, reason=f"failed: {type(error).__name__}: {error}")
    slow, fast = median_times(sessions, feeds)
    sizes = tuple(sum(file.stat().st_size for file in _files(one)) for one in (path, candidate))
    kept, reason = _verdict(scaled, atol, slow, fast)
    if kept and sizes[1] > sizes[0] * LARGER + SMALL_CHANGE:
        kept, reason = False, f"larger: {sizes[1]} bytes against {sizes[0]}"
    report = StepReport(
        graph=path.stem,
        step=step,
        kept=kept,
        reason=reason,
        nodes=(len(before.graph.node), len(after.graph.node)),
        bytes=(sizes[0], sizes[1]),
        ms=(round(slow, 3), round(fast, 3)),
        scaled=scaled,
    )
    if kept:
        for file in _files(path):
            file.unlink()
        for file in _files(candidate):
            file.rename(path.parent / file.name)
    return report


def _operators(model: onnx.ModelProto) -> list[str]:
    return [f"{node.domain}:{node.op_type} {' '.join(node.input)}" for node in model.graph.node]


def _verdict(scaled: float, atol: float, before_ms: float, after_ms: float) -> tuple[bool, str]:
    if not scaled <= atol:
        return False, f"outputs move by {scaled:.2g}, allowed is {atol:.2g}"
    if after_ms > max(before_ms * SLOWER, before_ms + RESOLUTION_MS):
        return False, f"slower: {after_ms:.3f} ms against {before_ms:.3f} ms"
    return True, "the same numbers, not slower"


def _files(path: Path) -> list[Path]:
    """The graph and, where there is one, its weight file."""
    return [file for file in (path, path.with_name(f"{path.name}.data")) if file.exists()]


def _difference(wanted: list[NDArray[Any]], found: list[NDArray[Any]]) -> float:
    if [array.shape for array in wanted] != [array.shape for array in found]:
        return float("inf")
    pairs = [(one.astype(np.float64), two.astype(np.float64)) for one, two in zip(wanted, found, strict=True)]
    return max(float(np.abs(one - two).max() / max(1.0, np.abs(one).max())) for one, two in pairs)


def median_times(sessions: list[Any], feeds: Feeds) -> tuple[float, float]:
    """Medians in milliseconds of two sessions' runs in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for session, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, feeds)
            taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def _slim(path: Path) -> onnx.ModelProto:
    # Its shape inference needs the whole model in one file's reach; it leaves names of inputs and outputs alone.
    model: onnx.ModelProto = require("onnxslim", "export").slim(
        onnx.load(path), skip_fusion_patterns=["FusionGelu"], size_threshold=FOLDED_BYTES
    )
    return model


def _fuse(path: Path) -> onnx.ModelProto:
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    logging.getLogger("onnxruntime.transformers").setLevel(logging.CRITICAL)  # it tells of every shape it cannot infer
    fused = optimize_model(str(path), model_type="bert", opt_level=0, optimization_options=FusionOptions("bert"))
    fused.topological_sort()
    model: onnx.ModelProto = fused.model
    if not any(item.domain == OWN_DOMAIN for item in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(OWN_DOMAIN, 1))
    return model


def _gelu(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    order_gelu(model)
    return model


STEPS: dict[str, Callable[[Path], onnx.ModelProto]] = {"slim": _slim, "gelu": _gelu, "fuse": _fuse}
