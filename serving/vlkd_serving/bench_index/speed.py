"""Queries a second of the index, of exact search and of bare FAISS with the same parameters, in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vlkd_serving.bench_index.memory import peak_bytes
from vlkd_serving.index import IndexReader
from vlkd_serving.index.generation import VECTORS_FILE
from vlkd_serving.index.ranking import Ranking
from vlkd_serving.index.structure import Structure
from vlkd_serving.index.tune import overlap

__all__ = ["measure_curve", "measure_speed"]

K = 10
Search = Callable[[NDArray[np.float32]], object]
_EFFORTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def measure_speed(
    index: Path, vectors: Path, queries: NDArray[np.float32], threads: int, rounds: int
) -> dict[str, Any]:
    """Time exact search (FAISS Flat, fp32), bare FAISS and the index, one after the other in each round.

    Args:
        index: the index folder.
        vectors: the ``.npy`` file that it was built from.
        queries: (Q, D), L2-normalised, not in the index.
        threads: of FAISS, for all.
        rounds: how often; medians are reported.

    Returns:
        Queries a second by name and batch size, ratios, recall@10, load average.
    """
    faiss.omp_set_num_threads(threads)
    reader = IndexReader.open(index)
    bare = Structure(faiss.read_index(str(index / reader.manifest.folder / VECTORS_FILE)), reader.manifest.spec)
    flat = faiss.IndexFlatIP(queries.shape[1])
    flat.add(np.load(vectors, mmap_mode="r"))
    _, truth = flat.search(queries, K)
    _, found = reader.search_rows(queries, K)
    searches: dict[str, Search] = {
        "flat": lambda batch: flat.search(batch, K),
        "faiss": lambda batch: bare.search(batch, K),
        "index": lambda batch: reader.search_ids(batch, K),
        "index_items": lambda batch: [reader.search(query, K) for query in batch[:1000]],
    }
    load = os.getloadavg()[0]
    rates: dict[str, dict[str, list[float]]] = {"1": {}, "1000": {}}
    singles = min(200, len(queries))
    for turn in range(rounds):
        for name, search in searches.items():
            some = queries[(turn * singles) % len(queries) :][: singles // (8 if name == "flat" else 1)]
            rates["1"].setdefault(name, []).append(_rate(search, some, 1))
            if name != "index_items":
                rates["1000"].setdefault(name, []).append(_rate(search, queries, len(queries)))
    cpu = _cpu_us({name: searches[name] for name in ("faiss", "index")}, queries[:singles], threads)
    median = {size: {name: float(np.median(values)) for name, values in by.items()} for size, by in rates.items()}
    return {
        "kind": reader.manifest.kind,
        "structure": reader.manifest.spec.factory,
        "effort": reader.manifest.spec.effort,
        "recall_at_10": overlap(found, truth),
        "queries_a_second": median,
        "spread": {s: {n: [min(v), max(v)] for n, v in by.items()} for s, by in rates.items()},
        "times_flat": {size: by["index"] / by["flat"] for size, by in median.items()},
        "of_bare_faiss": {size: by["index"] / by["faiss"] for size, by in median.items()},
        "cpu_us_a_query": cpu,
        "of_bare_faiss_by_cpu": cpu["faiss"] / cpu["index"],
        "threads": threads,
        "load_average": load,
        "peak_bytes": peak_bytes(),
    }


def measure_curve(index: Path, vectors: Path, queries: NDArray[np.float32], threads: int) -> list[dict[str, float]]:
    """Recall@10 and queries a second at batch 1 and at once, by effort (lists probed or candidates kept)."""
    faiss.omp_set_num_threads(threads)
    reader = IndexReader.open(index)
    flat = faiss.IndexFlatIP(queries.shape[1])
    flat.add(np.load(vectors, mmap_mode="r"))
    _, truth = flat.search(queries, K)
    del flat
    ranking, lines = reader.generation.ranking, []
    for effort in sorted({*_EFFORTS, reader.manifest.spec.effort} - {0}):
        _, found = ranking.rank(queries, K, effort=effort)
        search = partial(_ranked, ranking, effort)
        lines.append(
            {
                "effort": effort,
                "recall_at_10": overlap(found, truth),
                "queries_a_second_1": _rate(search, queries[:200], 1),
                "queries_a_second_1000": _rate(search, queries, len(queries)),
            }
        )
    return lines


def _cpu_us(searches: dict[str, Search], queries: NDArray[np.float32], threads: int) -> dict[str, float]:
    """Median processor time of one query on one thread, query by query in turns: it holds on a busy machine too."""
    faiss.omp_set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(len(queries)):
        for name, search in searches.items():
            begin = time.thread_time()
            search(queries[number : number + 1])
            times[name].append((time.thread_time() - begin) * 1e6)
    faiss.omp_set_num_threads(threads)
    return {name: float(np.median(values)) for name, values in times.items()}


def _ranked(ranking: Ranking, effort: int, batch: NDArray[np.float32]) -> object:
    return ranking.rank(batch, K, effort=effort)


def _rate(search: Search, queries: NDArray[np.float32], batch: int) -> float:
    begin = time.perf_counter()
    for start in range(0, len(queries), batch):
        search(queries[start : start + batch])
    return len(queries) / (time.perf_counter() - begin)
