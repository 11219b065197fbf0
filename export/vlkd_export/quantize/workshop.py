"""Makes the graphs that the autopilot asks for, each once, and puts students together from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_export.quantize.assembly import student_of
from vlkd_export.quantize.graph import Group, load_prepared, split_groups
from vlkd_export.quantize.methods import Feeds, applies, write_variant
from vlkd_export.quantize.timing import median_times
from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.providers import open_graph

__all__ = ["FP32", "Choice", "Plan", "Timed", "Workshop"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How one graph is written and where it runs."""

    method: str = "fp32"
    provider: str = "cpu"
    put_back: tuple[str, ...] = ()
    """Groups of nodes that stay fp32."""

    def __str__(self) -> str:
        back = f", fp32: {'; '.join(self.put_back)}" if self.put_back else ""
        return f"{self.method} on {self.provider}{back}"


FP32 = Choice()
Plan = dict[str, Choice]
"""Graph -> choice; a graph that is not in it is fp32 on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A choice with its cost."""

    choice: Choice
    ms: dict[int, float]
    """Batch size -> median milliseconds of a run."""
    fp32_ms: dict[int, float]
    """The same of the fp32 graph on the CPU by onnxruntime, taken in turns with it."""
    bytes: int
    error: float = 0.0
    """Of the outputs, relative to those of fp32 (Euclidean norms); the worst output's."""

    @property
    def relative(self) -> float:
        """Time relative to fp32: the geometric mean over the batch sizes."""
        product = 1.0
        for batch, ms in self.ms.items():
            product *= ms / self.fp32_ms[batch]
        return float(product ** (1 / len(self.ms)))

    @property
    def slower_at(self) -> list[int]:
        """Batch sizes at which fp32 is faster."""
        return [batch for batch, ms in self.ms.items() if ms > self.fp32_ms[batch]]


class Workshop:
    """Variants of the graphs of one fp32 bundle.

    Args:
        bundle: the fp32 bundle.
        folder: where variants go.
        calibration_feeds: graph -> inputs for static ranges.
        calibration: ``minmax``, ``entropy`` or ``percentile``.
    """

    def __init__(
        self, bundle: Path, folder: Path, calibration_feeds: Mapping[str, Sequence[Feeds]], calibration: str
    ) -> None:
        self.bundle = bundle
        self.folder = folder
        self._feeds = calibration_feeds
        self._calibration = calibration
        self._paths: dict[tuple[str, str, tuple[str, ...]], Path] = {}
        self._sessions: dict[tuple[str, Choice], Any] = {}
        self._groups: dict[str, list[Group]] = {}

    @property
    def graphs(self) -> list[str]:
        """Names of the graphs that were seen at work."""
        return list(self._feeds)

    def groups(self, graph: str) -> list[Group]:
        """Groups of nodes of a graph."""
        if graph not in self._groups:
            self._groups[graph] = split_groups(load_prepared(self._source(graph)))
        return self._groups[graph]

    def path(self, graph: str, choice: Choice) -> Path:
        """File of a variant, written at the first call."""
        if choice.method == "fp32":
            return self._source(graph)
        key = (graph, choice.method, choice.put_back)
        if key not in self._paths:
            target = self.folder / f"{graph}-{len(self._paths)}" / f"{graph}.onnx"
            target.parent.mkdir(parents=True)
            exclude = [node for group in self.groups(graph) if group.name in choice.put_back for node in group.nodes]
            feeds, how = self._feeds[graph], self._calibration
            write_variant(choice.method, self._source(graph), target, exclude=exclude, feeds=feeds, calibration=how)
            self._paths[key] = target
        return self._paths[key]

    def size(self, graph: str, choice: Choice) -> int:
        """Bytes of a variant, with its external weights."""
        path = self.path(graph, choice)
        return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}.data")) if file.exists())

    def session(self, graph: str, choice: Choice) -> Any:
        """An open session of a variant."""
        if (graph, choice) not in self._sessions:
            path = self.path(graph, choice)
            external = {file.name for file in path.parent.glob("*.data")}
            self._sessions[graph, choice] = open_graph(path, provider=choice.provider, allowed_external=external)
        return self._sessions[graph, choice]

    def student(self, plan: Plan) -> OnnxStudent:
        """The student with the graphs of ``plan``."""
        return student_of(self.bundle, {graph: self.session(graph, plan.get(graph, FP32)) for graph in self.graphs})

    def close(self, keep: Plan) -> None:
        """Let go of the sessions that ``keep`` does not name: each holds its weights in memory."""
        self._sessions = {key: item for key, item in self._sessions.items() if keep.get(key[0], FP32) == key[1]}

    def timed(
        self, graph: str, choices: Sequence[Choice], feeds: Mapping[int, Feeds], runs: int
    ) -> tuple[list[Timed], dict[str, str]]:
        """Time choices of one graph in turns, with fp32 on the CPU beside them.

        Returns:
            The times, fastest first; and choice -> why it cannot be used here.
        """
        sessions, failed = {}, {}
        for choice in dict.fromkeys([FP32, *choices]):
            try:
                sessions[choice] = self.session(graph, choice)
                for some in feeds.values():
                    sessions[choice].run(None, some)
            except VlkdError as error:
                sessions.pop(choice, None)
                failed[str(choice)] = str(error)
        ms: dict[Choice, dict[int, float]] = {choice: {} for choice in sessions}
        wanted = sessions[FP32].run(None, feeds[max(feeds)])
        for batch, some in feeds.items():
            names = {str(choice): choice for choice in sessions}
            runners = {name: _runner(sessions[choice], some) for name, choice in names.items()}
            for name, value in median_times(runners, runs).items():
                ms[names[name]][batch] = value
        timed = [
            Timed(
                choice=choice,
                ms=ms[choice],
                fp32_ms=ms[FP32],
                bytes=self.size(graph, choice),
                error=_error(wanted, session.run(None, feeds[max(feeds)])),
            )
            for choice, session in sessions.items()
            if choice in choices
        ]
        return sorted(timed, key=lambda item: item.relative), failed

    def choices(self, graph: str, methods: Sequence[str], providers: Sequence[str]) -> list[Choice]:
        """Every method that makes something of the graph, at every place."""
        model = load_prepared(self._source(graph))
        fitting = [method for method in methods if applies(method, model)] or ["fp32"]
        return [Choice(method=method, provider=provider) for method in fitting for provider in providers]

    def _source(self, graph: str) -> Path:
        return self.bundle / "onnx" / f"{graph}.onnx"


def _error(wanted: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    pairs = [(one.astype(np.float64), two.astype(np.float64)) for one, two in zip(wanted, found, strict=True)]
    return round(max(float(np.linalg.norm(one - two)) / (float(np.linalg.norm(one)) or 1.0) for one, two in pairs), 6)


def _runner(session: Any, feeds: Feeds) -> Any:
    return lambda: session.run(None, feeds)
