"""Add to an index while it is searched: is every search answered, and is every added item found?"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index import Item, LiveIndex, LiveWriter

__all__ = ["measure_live"]

K = 10
_SEARCHERS = 2


def measure_live(
    index: Path, queries: NDArray[np.float32], added: NDArray[np.float32], threads: int, batch: int
) -> dict[str, Any]:
    """Add vectors, ``batch`` a confirmed change, while threads search without a pause.

    Args:
        index: the index folder; the additions are removed again.
        queries: (Q, D) what is searched.
        added: (M, D) what is added.
        threads: of FAISS.
        batch: vectors a change.

    Returns:
        Searches made, failed and short (fewer than 10 hits), items not found right after their confirmation, times.
    """
    faiss.omp_set_num_threads(threads)
    live = LiveIndex(index, None)
    before = _latencies(live, queries[:200])
    outcome: dict[str, Any] = {"searches": 0, "failed": 0, "short": 0, "not_found": 0}
    times: list[float] = []
    done, lock = threading.Event(), threading.Lock()

    def search() -> None:
        turn = 0
        while not done.is_set():
            query, turn = queries[turn % len(queries)], turn + 1
            begin = time.perf_counter()
            try:
                hits = live.current.search(query, K)
            except Exception:
                hits = None
            with lock:
                times.append((time.perf_counter() - begin) * 1000)
                outcome["searches"] += 1
                outcome["failed"] += hits is None
                outcome["short"] += hits is not None and len(hits) < K

    searchers = [threading.Thread(target=search) for _ in range(_SEARCHERS)]
    with LiveWriter(live) as writer:
        for thread in searchers:
            thread.start()
        begin = time.perf_counter()
        for start in range(0, len(added), batch):
            part = added[start : start + batch]
            ids = [f"added-{start + n}" for n in range(len(part))]
            writer.put([Item(id=item_id) for item_id in ids], part)
            with_first = live.current.search(part[0], 1)[0].item.id
            outcome["not_found"] += with_first != ids[0]
        seconds = time.perf_counter() - begin
        done.set()
        for thread in searchers:
            thread.join()
        after = _latencies(live, queries[:200])
        missing = sum(live.current.get(f"added-{n}") is None for n in range(len(added)))
        writer.remove([f"added-{n}" for n in range(len(added))])
    return outcome | {
        "added": len(added),
        "missing_at_the_end": missing,
        "seconds": seconds,
        "added_a_second": len(added) / seconds,
        "search_ms_before": before,
        "search_ms_during": _percentiles(times),
        "search_ms_with_the_log_full": after,
    }


def _latencies(live: LiveIndex, queries: NDArray[np.float32]) -> dict[str, float]:
    times = []
    for query in queries:
        begin = time.perf_counter()
        live.current.search(query, K)
        times.append((time.perf_counter() - begin) * 1000)
    return _percentiles(times)


def _percentiles(times: list[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95)), "max": max(times)}
