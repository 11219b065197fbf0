"""Rank the rows of one generation: search the structure, score the candidates again with the kept vectors."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index.rescore import MOST_ALONE, Rescored, SearchAlone
from vlkd_serving.index.structure import Structure
from vlkd_serving.index.vectors import FloatArray, KeptVectors

__all__ = ["Ranking", "any_missing", "best_of", "rank_exactly"]

_FEW_ROWS = 20_000
"""Up to so many selected rows are scored one by one: exact, and faster than a walk that rejects most of them."""
_MOST_WIDENING = 8


class Ranking:
    """The rows of a generation in the order of their cosine.

    Args:
        structure: what is searched.
        kept: vectors to score with; None where the structure is exact and holds them itself.
    """

    def __init__(self, structure: Structure, kept: KeptVectors | None) -> None:
        self.structure = structure
        self.vectors = kept if kept is not None else KeptVectors(structure.vectors())
        self._score_again = kept is not None
        in_faiss = kept is not None and kept.pages is not None and len(kept) > 0 and structure.spec.codec != "binary"
        self._rescored = Rescored(structure, kept) if kept is not None and in_faiss else None

    def __len__(self) -> int:
        return len(self.structure)

    def rank(
        self, queries: FloatArray, depth: int, selected: NDArray[np.bool_] | None = None, effort: int | None = None
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """The best rows for each query, with exact cosines.

        Args:
            queries: (Q, D), L2-normalised.
            depth: how many, at least 1.
            selected: (N,) rows that may be found; None means all.
            effort: instead of the one that the tuner chose.

        Returns:
            Scores (Q, K) in falling order and rows (Q, K); K is ``depth``, or less where there are fewer rows.
        """
        effort = self.structure.spec.effort if effort is None else effort
        count = len(self) if selected is None else int(np.count_nonzero(selected))
        depth = min(depth, count)
        if depth == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if selected is not None:
            if count <= _FEW_ROWS:
                return self._rank_few(queries, depth, np.flatnonzero(selected))
            effort = effort * min(_MOST_WIDENING, max(1, len(self) // count))
        if not self._score_again:
            return self.structure.search(queries, depth, selected, effort)
        wanted = min(depth * self.structure.spec.oversample, count)
        if self._rescored is not None:
            scores, rows = _in_order(*self._rescored.search(queries, wanted, selected, effort), depth)
        else:
            _, rows = self.structure.search(queries, wanted, selected, effort)
            scores, rows = best_of(self.vectors.scores(queries, rows), rows, depth)
        if any_missing(rows):  # the graph or the lists ended early, which a long list may meet: scan for these
            short = np.flatnonzero(rows[:, -1] < 0)
            scores[short], rows[short] = rank_exactly(self.vectors, queries[short], depth, selected)
        return scores, rows

    def alone(self, depth: int) -> SearchAlone | None:
        """:meth:`rank` for one query at a time, all rows, the short way; None where there is none."""
        spec = self.structure.spec
        wanted = depth * spec.oversample
        if self._rescored is None or wanted > min(MOST_ALONE, len(self)):
            return None
        return self._rescored.alone(wanted, depth, spec.effort)

    def blocks(self) -> Iterator[FloatArray]:
        """Every vector in row order, block by block."""
        return self.vectors.blocks()

    def _rank_few(
        self, queries: FloatArray, depth: int, numbers: NDArray[np.int64]
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        scores = np.concatenate([queries @ block.T for block in _blocks_of_rows(self.vectors, numbers)], axis=1)
        return best_of(scores, np.broadcast_to(numbers, scores.shape), depth)


def _blocks_of_rows(vectors: KeptVectors, numbers: NDArray[np.int64], size: int = 4096) -> Iterator[FloatArray]:
    """The vectors of some rows, block by block."""
    for start in range(0, len(numbers), size):
        yield vectors.rows(numbers[start : start + size])


def rank_exactly(
    vectors: KeptVectors, queries: FloatArray, depth: int, selected: NDArray[np.bool_] | None = None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """As :meth:`Ranking.rank`, by a scan over every vector: what a measurement is held against."""
    depth = min(depth, len(vectors))
    scores = np.full((len(queries), depth), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), depth), -1, dtype=np.int64)
    start = 0
    for block in vectors.blocks():
        size = len(block)
        numbers = np.arange(start, start + size)
        if selected is not None:
            numbers = numbers[selected[numbers]]
            block = block[numbers - start]
        start += size
        if not len(block):
            continue
        near, found = faiss.knn(queries, block, min(depth, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        both = np.concatenate([scores, near], axis=1), np.concatenate([rows, numbers[found]], axis=1)
        scores, rows = best_of(*both, depth)
    return scores, rows


def _in_order(scores: FloatArray, rows: NDArray[np.int64], depth: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """The ``depth`` best of lines that are sorted already, but for the order of equal scores."""
    if len(scores) == 1:  # one query waits for one answer: no detour
        line = scores[0].tolist()
        if len(set(line)) == len(line):
            return scores[:, :depth], rows[:, :depth]
        return best_of(np.where(rows < 0, -np.inf, scores), rows, depth)
    best, first = scores[:, :depth].copy(), rows[:, :depth].copy()
    equal = np.flatnonzero((scores[:, 1:] == scores[:, :-1]).any(axis=1))
    if len(equal):
        some = rows[equal]
        best[equal], first[equal] = best_of(np.where(some < 0, -np.inf, scores[equal]), some, depth)
    return best, first


def any_missing(rows: NDArray[np.int64]) -> bool:
    """Whether a line of (Q, K > 0) rows ends with -1, for want of more."""
    return bool(rows[0, -1] < 0 if len(rows) == 1 else rows[:, -1].min(initial=0) < 0)


def best_of(scores: FloatArray, rows: NDArray[np.int64], depth: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """The ``depth`` best of each line, in falling order; of equal scores the lower row comes first.

    Args:
        scores: (Q, K).
        rows: (Q, K).
        depth: at most K are left.
    """
    if len(scores) == 1:  # one query waits for one answer: no detour
        best = np.lexsort((rows[0], -scores[0]))[:depth]
        return scores[:, best], rows[:, best]
    lines = np.arange(len(scores))[:, None]
    if scores.shape[1] > 4 * depth:  # sort only what may be kept; ties at the cut stay in
        cut = -np.partition(-scores, depth - 1, axis=1)[:, depth - 1 : depth]
        widest = int((scores >= cut).sum(axis=1).max())
        part = np.argpartition(-scores, min(widest, scores.shape[1]) - 1, axis=1)[:, :widest]
        scores, rows = scores[lines, part], rows[lines, part]
    order = np.lexsort((rows, -scores), axis=1)[:, :depth]
    return scores[lines, order], rows[lines, order]
