"""Choose, build and tune the search structure of a generation, and measure what it reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index.plan import EXACT, candidates, list_count, memory_of
from vlkd_serving.index.progress import Progress, no_progress
from vlkd_serving.index.ranking import Ranking, rank_exactly
from vlkd_serving.index.spec import Budget, Measured, Spec
from vlkd_serving.index.structure import Structure
from vlkd_serving.index.vectors import FloatArray, KeptVectors

__all__ = ["Built", "build_exact", "build_structure", "overlap"]

K = 10
QUERIES = 1000
_TRAIN_ROWS_A_LIST = 50
_LEAST_TRAIN_ROWS = 20_000
_MOST_EFFORT = {"hnsw": 4096}
_TIMED = 30
_TIMED_EXACT = 3
_MARGIN = 0.01
"""What half of the queries must reach above the target, so that the other half reaches the target."""


@dataclass(frozen=True)
class Built:
    """A structure at the effort that was chosen, and what it reached."""

    structure: Structure
    spec: Spec
    measured: Measured | None


@dataclass(frozen=True)
class _Probe:
    """Queries and their exact answers: the first half chooses, the second half is reported."""

    queries: FloatArray
    own_rows: NDArray[np.int64]
    truth: NDArray[np.int64]
    source: str
    exact_latency_ms: float


def build_structure(
    vectors: KeptVectors,
    dim: int,
    budget: Budget,
    queries: FloatArray | None = None,
    before: Structure | None = None,
    progress: Progress = no_progress,
) -> Built:
    """Build the first structure that meets the budget; where none does, the one that comes closest in recall.

    Args:
        vectors: (N, D), L2-normalised; what the answers are held against.
        dim: D.
        budget: recall, memory, latency.
        queries: (Q, D) normalised queries of the kind that will come, for example of texts; None takes rows of the
            index, which are kept out of the training and never found as their own neighbour.
        before: what served until now; its centroids are kept while the number of rows stays within a factor of two.
        progress: called with a step's name and the number of rows done since the last call.
    """
    rows = len(vectors)
    specs = candidates(rows, dim, budget)
    if rows == 0:
        return Built(Structure.build(EXACT, dim, np.empty((0, dim), np.float32), []), EXACT, None)
    rng = np.random.default_rng(rows)
    held_out = rng.choice(rows, size=min(QUERIES, rows), replace=False)
    probe = _probe(vectors, held_out, queries)
    best: Built | None = None
    for spec in specs:
        structure = _structure(vectors, dim, spec, held_out, before, progress)
        ranking = Ranking(structure, None if spec.exact else vectors)
        built = _tune(ranking, probe, budget, memory_of(spec, rows, dim))
        if built.measured is not None and built.measured.met:
            return built
        if best is None or _recall(built) > _recall(best):
            best = built
    assert best is not None  # candidates() gives at least one
    return best


def build_exact(blocks: Iterable[FloatArray], dim: int, budget: Budget, progress: Progress = no_progress) -> Built:
    """The structure that finds every neighbour; only its time is to be measured."""
    structure = Structure.build(EXACT, dim, np.empty((0, dim), np.float32), blocks, progress)
    if not len(structure):
        return Built(structure, EXACT, None)
    ranking = Ranking(structure, None)
    asked = ranking.vectors.rows(np.arange(min(_TIMED, len(structure))))
    latency = round(_median_ms(lambda query: ranking.rank(query, K), asked), 4)
    measured = Measured(
        recall=1.0,
        queries=0,
        source="exact",
        target=budget.recall,
        met=True,
        latency_ms=latency,
        exact_latency_ms=latency,
        memory_bytes=memory_of(EXACT, len(structure), dim),
    )
    return Built(structure, EXACT, measured)


def _structure(
    vectors: KeptVectors,
    dim: int,
    spec: Spec,
    held_out: NDArray[np.int64],
    before: Structure | None,
    progress: Progress,
) -> Structure:
    rows = len(vectors)
    if before is not None and before.spec.kind in ("ivf", "ivfpq") and (spec.kind, spec.codec) == before.spec.words:
        if before.spec.trained_rows <= 2 * rows <= 4 * before.spec.trained_rows:
            return before.grown(vectors.blocks(), progress)
    sample = _sample(vectors, spec, held_out)
    progress("training", 0)
    return Structure.build(replace(spec, trained_rows=rows), dim, sample, vectors.blocks(), progress)


def overlap(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean share of each line of ``truth`` (Q, K) that the line of ``found`` (Q, >= 0) holds: recall@K."""
    hits = sum(np.isin(t[t >= 0], f).sum() for f, t in zip(found, truth, strict=True))
    return float(hits / max(1, (truth >= 0).sum()))


def _sample(vectors: KeptVectors, spec: Spec, held_out: NDArray[np.int64]) -> FloatArray:
    if spec.kind in ("flat", "hnsw") and spec.codec != "int8":
        return np.empty((0, 0), np.float32)
    rows = len(vectors)
    most = max(_LEAST_TRAIN_ROWS, _TRAIN_ROWS_A_LIST * list_count(rows))
    usable = np.arange(rows) if rows < 20 * len(held_out) else np.setdiff1d(np.arange(rows), held_out)
    rng = np.random.default_rng(1)
    chosen = usable if len(usable) <= most else np.sort(rng.choice(usable, size=most, replace=False))
    return vectors.rows(chosen)


def _probe(vectors: KeptVectors, held_out: NDArray[np.int64], queries: FloatArray | None) -> _Probe:
    own = held_out if queries is None else np.full(len(queries), -1, dtype=np.int64)
    asked = vectors.rows(held_out) if queries is None else queries
    _, truth = rank_exactly(vectors, asked, K + 1)
    exact_ms = _median_ms(lambda query: rank_exactly(vectors, query, K), asked[:_TIMED_EXACT])
    source = "held-out" if queries is None else "given"
    return _Probe(asked, own, _without(truth, own), source, exact_ms)


def _without(rows: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first K of each line that are not its own row; -1 where there are fewer."""
    lines = np.full((len(rows), K), -1, dtype=np.int64)
    for line, (found, self_row) in enumerate(zip(rows, own, strict=True)):
        others = found[(found != self_row) & (found >= 0)][:K]
        lines[line, : len(others)] = others
    return lines


def _tune(ranking: Ranking, probe: _Probe, budget: Budget, memory: int) -> Built:
    half = (len(probe.queries) + 1) // 2
    choose, report = slice(0, half), slice(half, None) if len(probe.queries) > 1 else slice(0, None)

    def recall(effort: int, part: slice) -> float:
        _, rows = ranking.rank(probe.queries[part], K + 1, effort=effort)
        return overlap(_without(rows, probe.own_rows[part]), probe.truth[part])

    spec = ranking.structure.spec
    effort = spec.effort
    if effort:
        most = _MOST_EFFORT.get(spec.kind, list_count(len(ranking)))
        goal = min(budget.recall + _MARGIN, (1 + budget.recall) / 2)
        effort = _least_effort(lambda value: recall(value, choose) >= goal, effort, most)
        while recall(effort, report) < budget.recall and effort < most:
            effort = min(most, effort + max(1, effort // 4))
    spec = replace(spec, effort=effort)
    ranking.structure.spec = spec
    reached = recall(effort, report)
    latency = _median_ms(lambda query: ranking.rank(query, K), probe.queries[:_TIMED])
    met = reached >= budget.recall and (budget.latency_ms is None or latency <= budget.latency_ms)
    measured = Measured(
        recall=round(reached, 5),
        queries=len(probe.queries[report]),
        source=probe.source,
        target=budget.recall,
        met=met and (budget.memory_bytes is None or memory <= budget.memory_bytes),
        latency_ms=round(latency, 4),
        exact_latency_ms=round(probe.exact_latency_ms, 4),
        memory_bytes=memory,
    )
    return Built(ranking.structure, spec, measured)


def _least_effort(enough: Callable[[int], bool], low: int, most: int) -> int:
    """The least effort that is enough, doubling and then halving the gap; ``most`` where none is."""
    high = low
    while not enough(high):
        if high >= most:
            return most
        low, high = high, min(2 * high, most)
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _median_ms(ask: Callable[[FloatArray], object], queries: FloatArray) -> float:
    times = []
    for query in queries:
        begin = time.perf_counter()
        ask(query[None])
        times.append((time.perf_counter() - begin) * 1000)
    return float(np.median(times))


def _recall(built: Built) -> float:
    return built.measured.recall if built.measured is not None else 0.0
