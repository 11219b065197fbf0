"""The steps of ``vlkd bench index``, each in a process of its own, so that its peak of memory is its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vlkd_hub.reports import write_report
from vlkd_serving.bench_index.clusters import ClusteredVectors

__all__ = ["build_step", "curve_step", "in_own_process", "live_step", "serve_step", "speed_step"]

_FINGERPRINT = "be" * 32


def in_own_process(step: Callable[..., Any], *args: Any) -> Any:
    """Run a step of this module in a fresh process and return what it returns."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(step, args)


def build_step(
    index: Path, vectors: Path, recall: float, memory: int | None, kind: str, threads: int
) -> dict[str, Any]:
    """Build the index; seconds, peak of memory, and what the build measured of itself.

    One that is there already, of these vectors and this budget, is kept: building a million takes minutes. Its report
    lies beside it.
    """
    import faiss

    from vlkd_serving.bench_index.memory import peak_bytes
    from vlkd_serving.index import Budget, IndexWriter, Item

    asked = {"vectors": vectors.name, "recall": recall, "memory": memory, "kind": kind}
    report = index.with_name(f"{index.name}-build.json")
    kept: dict[str, Any] = json.loads(report.read_text()) if report.is_file() else {}
    if kept.get("asked") == asked and index.is_dir():
        return kept
    faiss.omp_set_num_threads(threads)
    rows = np.load(vectors, mmap_mode="r")
    items = (Item(id=f"item-{n:07d}", metadata={"class": f"c{n % 100}"}) for n in range(len(rows)))
    begin = time.perf_counter()
    with IndexWriter(index, _FINGERPRINT) as writer:
        budget = Budget(recall=recall, memory_bytes=memory, kind=kind)
        manifest = writer.build(items, rows, None, budget=budget)
    measured = manifest.measured
    built = {
        "asked": asked,
        "seconds": time.perf_counter() - begin,
        "peak_bytes": peak_bytes(),
        "input_bytes": rows.nbytes,
        "file_bytes": {name: entry.size for name, entry in manifest.files.items()},
        "kind": manifest.kind,
        "structure": manifest.spec.factory,
        "effort": manifest.spec.effort,
        "measured_recall": None if measured is None else measured.recall,
        "within_budget": None if measured is None else measured.met,
    }
    write_report(report, built)
    return built


def speed_step(index: Path, vectors: Path, data: ClusteredVectors, queries: int, threads: int, rounds: int) -> Any:
    """See :func:`measure_speed`."""
    from vlkd_serving.bench_index.speed import measure_speed

    return measure_speed(index, vectors, data.queries(queries), threads, rounds)


def curve_step(index: Path, vectors: Path, data: ClusteredVectors, queries: int, threads: int) -> Any:
    """See :func:`measure_curve`."""
    from vlkd_serving.bench_index.speed import measure_curve

    return measure_curve(index, vectors, data.queries(queries), threads)


def live_step(index: Path, data: ClusteredVectors, queries: int, adds: int, batch: int, threads: int) -> Any:
    """See :func:`measure_live`; added to a copy, whose files are links to the same, since a generation never changes.

    The added vectors are drawn from the same clusters and are not among the queries.
    """
    from vlkd_serving.bench_index.live import measure_live
    from vlkd_serving.index.lock import LOCK_NAME

    drawn = data.queries(queries + adds)
    copy = index.with_name(f"{index.name}-live")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(index, copy, copy_function=os.link, ignore=shutil.ignore_patterns(LOCK_NAME))
    try:
        return measure_live(copy, drawn[:queries], drawn[queries:], threads, batch)
    finally:
        shutil.rmtree(copy)


def serve_step(index: Path, data: ClusteredVectors, queries: int, threads: int) -> dict[str, Any]:
    """Open the index, verified, and search it: seconds to the first answer, memory of a process that only serves."""
    import faiss

    from vlkd_serving.bench_index.memory import peak_bytes, resident_bytes
    from vlkd_serving.index import IndexReader

    faiss.omp_set_num_threads(threads)
    asked = data.queries(queries)
    own_before = resident_bytes()["own"]
    begin = time.perf_counter()
    reader = IndexReader.open(index)
    reader.search(asked[0], 10)
    seconds = time.perf_counter() - begin
    filtered: dict[str, float] = {}
    for where in ("class = 'c7'", "class LIKE 'c7%'", "class != 'c7'"):
        for name in ("first", "again"):
            begin = time.perf_counter()
            reader.search(asked[1], 10, where=where)
            filtered[f"{where} ({name})"] = (time.perf_counter() - begin) * 1000
    for query in asked:
        reader.search(query, 10)
    return {
        "seconds_to_first_answer": seconds,
        "peak_bytes": peak_bytes(),
        "resident": resident_bytes(),
        "own_bytes_of_the_index": resident_bytes()["own"] - own_before,
        "filtered_search_ms": filtered,
    }
