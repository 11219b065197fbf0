"""Queries a second of the index, of exact search and of bare FAISS with the same parameters, in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
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
_BLOCKS = 8
_BLOCK = 25
_BLOCK_FLAT = 1
"""Single queries are timed in short blocks in turns, so that what else the machine does falls on all alike."""
_TURNS = 6
"""Of the batches in a round."""


def measure_speed(
    index: Path, vectors: Path, queries: NDArray[np.float32], threads: int, rounds: int
) -> dict[str, Any]:
    """Time exact search (FAISS Flat, fp32), bare FAISS and the index, one after the other in each round.

    Bare FAISS is the same structure in memory with the same effort, and as many candidates scored again by FAISS with
    the same vectors in memory; ``faiss_unscored`` leaves the scoring out, and so answers less well. ``index`` reads
    these vectors into memory as well; ``index_mapped`` has their file mapped, as `vlkd serve` without
    ``--index-in-memory``.

    Args:
        index: the index folder.
        vectors: the ``.npy`` file that it was built from.
        queries: (Q, D), L2-normalised, not in the index.
        threads: of FAISS, for all.
        rounds: how often; medians and quartiles are reported.

    Returns:
        Queries a second by name and batch size, ratios (against bare FAISS of the same turn), recall@10, load average.
    """
    faiss.omp_set_num_threads(threads)
    reader, mapped = IndexReader.open(index, in_memory=True), IndexReader.open(index)
    bare = Structure(faiss.read_index(str(index / reader.manifest.folder / VECTORS_FILE)), reader.manifest.spec)
    refined = _refined(bare, reader)
    flat = faiss.IndexFlatIP(queries.shape[1])
    flat.add(np.load(vectors, mmap_mode="r"))
    _, truth = flat.search(queries, K)
    _, found = reader.search_rows(queries, K)
    searches: dict[str, Search] = {
        "flat": lambda batch: flat.search(batch, K),
        "faiss": refined,
        "faiss_unscored": lambda batch: bare.search(batch, K),
        "index": lambda batch: reader.search_ids(batch, K),
        "index_mapped": lambda batch: mapped.search_ids(batch, K),
        "index_items": lambda batch: [reader.search(query, K) for query in batch[:1000]],
    }
    load = os.getloadavg()[0]
    single = _single_rates(searches, queries, rounds * _BLOCKS)
    at_once = _batch_rates(searches, queries, rounds)
    rates_by_size = {"1": single, str(len(queries)): at_once}
    median = {s: {name: float(np.median(values)) for name, values in by.items()} for s, by in rates_by_size.items()}
    of_bare = {s: np.divide(by["index"], by["faiss"]) for s, by in rates_by_size.items()}
    of_bare_mapped = {s: np.divide(by["index_mapped"], by["faiss"]) for s, by in rates_by_size.items()}
    of_unscored = {s: np.divide(by["index"], by["faiss_unscored"]) for s, by in rates_by_size.items()}
    return {
        "kind": reader.manifest.kind,
        "structure": reader.manifest.spec.factory,
        "effort": reader.manifest.spec.effort,
        "oversample": reader.manifest.spec.oversample,
        "recall_at_10": overlap(found, truth),
        "queries_a_second": median,
        "spread": {s: {n: _quartiles(v) for n, v in by.items()} for s, by in rates_by_size.items()},
        "times_flat": {s: by["index"] / by["flat"] for s, by in median.items()},
        "of_bare_faiss": {s: float(np.median(ratios)) for s, ratios in of_bare.items()},
        "of_bare_faiss_spread": {s: _quartiles(ratios) for s, ratios in of_bare.items()},
        "of_bare_faiss_mapped": {s: float(np.median(ratios)) for s, ratios in of_bare_mapped.items()},
        "of_unscored_faiss": {s: float(np.median(ratios)) for s, ratios in of_unscored.items()},
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


def _refined(bare: Structure, reader: IndexReader) -> Search:
    """The search of bare FAISS that gives the index's answers: candidates, scored again."""
    spec, ranking = reader.manifest.spec, reader.generation.ranking
    if spec.exact or spec.codec == "binary":
        return lambda batch: bare.search(batch, K)
    dim, kind = bare.dim, faiss.METRIC_INNER_PRODUCT
    half = ranking.vectors.half
    kept = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, kind) if half else faiss.IndexFlatIP(dim)
    for block in ranking.blocks():
        kept.add(block)
    both = faiss.IndexRefine(bare.faiss_index, kept)
    inner = bare.params(None, spec.effort)
    params = faiss.IndexRefineSearchParameters(k_factor=float(spec.oversample), base_index_params=inner)
    keep = (bare, kept, both)  # FAISS itself holds none of them
    return lambda batch: keep[2].search(batch, K, params=params)


def _single_rates(searches: dict[str, Search], queries: NDArray[np.float32], blocks: int) -> dict[str, list[float]]:
    """Queries a second of each search, asked one by one, by block; in each block in another order, since each finds in
    the processor's cache what the one before it left, and each takes queries of its own for the same reason."""
    rates: dict[str, list[float]] = {name: [] for name in searches}
    rng, names = np.random.default_rng(0), list(searches)
    for search in searches.values():  # what only the first call pays
        search(queries[:1])
    for _ in range(blocks):
        for name in rng.permutation(names):
            size = _BLOCK_FLAT if name == "flat" else _BLOCK
            rates[name].append(_rate(searches[name], queries[rng.choice(len(queries), size, replace=False)], 1))
    return rates


def _batch_rates(searches: dict[str, Search], queries: NDArray[np.float32], rounds: int) -> dict[str, list[float]]:
    """Queries a second of each search, all asked in one batch, turn by turn, in each turn in another order.

    Flat takes as long as dozens of the others, so it takes part once a round.
    """
    rng, names = np.random.default_rng(0), [name for name in searches if name != "index_items"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds * _TURNS):
        for name in rng.permutation(names):
            if name != "flat" or turn % _TURNS == 0:
                rates[name].append(_rate(searches[name], queries, len(queries)))
    return rates


def _quartiles(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.percentile(np.asarray(values, dtype=np.float64), [25, 75])]


def _ranked(ranking: Ranking, effort: int, batch: NDArray[np.float32]) -> object:
    return ranking.rank(batch, K, effort=effort)


def _rate(search: Search, queries: NDArray[np.float32], batch: int) -> float:
    begin = time.perf_counter()
    for start in range(0, len(queries), batch):
        search(queries[start : start + batch])
    return len(queries) / (time.perf_counter() - begin)
