"""Search one unchanging state of an index: a generation and the changes that the log holds after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.delta import Delta
from vlkd_serving.index.generation import Generation
from vlkd_serving.index.items import Item
from vlkd_serving.index.manifest import IndexManifest
from vlkd_serving.index.ranking import any_missing, best_of
from vlkd_serving.index.vectors import FloatArray, normalise
from vlkd_serving.index.where import Condition, parse_where

__all__ = ["Hit", "SearchView"]

_FIRST_DEPTH = 10
_NEXT_DEPTH = 10
"""Each further stretch of a long list is this many times as deep as the one before."""


@dataclass(frozen=True)
class Hit:
    """One search result: the item and its cosine similarity to the query."""

    item: Item
    score: float


class SearchView:
    """What one sequence number names; safe to use from several threads, and never changed by a writer.

    A row is a number of this view alone: those of the generation first, then those of the log.

    Args:
        directory: the index folder.
        generation: the committed generation.
        delta: the changes after it.
        degraded: why this is not the newest state, or None.
    """

    def __init__(self, directory: Path, generation: Generation, delta: Delta, degraded: str | None = None) -> None:
        self.directory = directory
        self.generation = generation
        self.delta = delta
        self.degraded = degraded
        self._alone = generation.ranking.alone(_FIRST_DEPTH) if delta.empty else None

    @property
    def manifest(self) -> IndexManifest:
        """Of the generation."""
        return self.generation.manifest

    @property
    def sequence(self) -> int:
        """Number of the last change in this view; it names the content."""
        return self.delta.sequence

    def __len__(self) -> int:
        return len(self.generation) + self.delta.size_change

    def search(
        self,
        query: FloatArray,
        k: int = 10,
        *,
        offset: int = 0,
        where: str | None = None,
        until: float | None = None,
    ) -> list[Hit]:
        """The ``k`` items most similar to one embedding, after the first ``offset``.

        The pages of one query on one view never overlap and leave nothing out.

        Args:
            query: (D,), any positive length; it is L2-normalised here.
            k: at least 1; fewer hits come back where fewer items fit.
            offset: how many to leave out.
            where: a filter, see :mod:`vlkd_serving.index.where`.
            until: when the filter must have been applied, on the clock of :func:`time.monotonic`.

        Raises:
            InvalidInputError: ``k`` below 1, ``offset`` below 0, another width than the index, NaN or a zero vector.
            WhereError: a filter that cannot be read, or takes too long.
        """
        if offset < 0:
            raise InvalidInputError(f"offset must be at least 0, got {offset}.")
        if np.ndim(query) != 1:
            raise InvalidInputError(
                f"The query has the shape {np.shape(query)}; the index holds {self.manifest.embedding_dim} values an "
                "item."
            )
        scores, rows = self._best(np.asarray(query), k + offset, where, until)
        pairs = zip(self.items_at(rows[offset:]), scores[offset:], strict=False)
        return [Hit(item, score) for item, score in pairs]

    def search_ids(self, queries: FloatArray, k: int = 10, where: str | None = None) -> list[list[tuple[str, float]]]:
        """(id, score) of the ``k`` best for each query, without the metadata; the fastest way to ask much.

        Args:
            queries: (Q, D).
            k: at least 1.
            where: a filter.
        """
        queries = np.asarray(queries)
        if len(queries) == 1:
            alone, best = self._best(queries[0], k, where)
            return [list(zip(self.ids_at(best), alone, strict=False))]
        scores, rows = self.search_rows(queries, k, where)
        if rows.size and not any_missing(rows):
            ids, width = self.ids_at(rows.ravel()), rows.shape[1]
            return [
                list(zip(ids[start : start + width], values, strict=True))
                for start, values in zip(range(0, len(ids), width), scores.tolist(), strict=True)
            ]
        lines = [[row for row in line if row >= 0] for line in rows.tolist()]
        found = iter(self.ids_at([row for line in lines for row in line]))
        return [
            list(zip(islice(found, len(line)), values, strict=False))
            for line, values in zip(lines, scores.tolist(), strict=True)
        ]

    def search_rows(
        self, queries: FloatArray, k: int, where: str | None = None, until: float | None = None
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Scores (Q, k) in falling order and rows (Q, k) of this view; -1 where fewer fit."""
        if k < 1:
            raise InvalidInputError(f"k must be at least 1, got {k}.")
        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.manifest.embedding_dim:
            raise InvalidInputError(
                f"The query has the shape {queries.shape[1:]}; the index holds {self.manifest.embedding_dim} values an "
                "item."
            )
        condition = parse_where(where, until) if where is not None else None
        unit = normalise(queries)
        if k <= _FIRST_DEPTH:
            scores, rows = self._rank(unit, _FIRST_DEPTH, condition)
            return (scores, rows) if k == _FIRST_DEPTH else (scores[:, :k], rows[:, :k])
        return _as_arrays([self._ranked_list(query, k, condition) for query in unit], k)

    def score_of(self, item_id: str, query: FloatArray) -> float:
        """Cosine of one item and an embedding.

        Raises:
            InvalidInputError: no such id, or a query that cannot be normalised.
        """
        row = self.delta.row_of(item_id)
        if row is not None:
            vector = self.delta.vectors[row]
        elif self.get(item_id) is None:
            raise InvalidInputError(f"The id {item_id!r} is not in the index.")
        else:
            vector = self.generation.ranking.vectors.rows(np.array([self.generation.items.row_of(item_id)]))[0]
        return float(vector @ normalise(query[None])[0])

    def get(self, item_id: str) -> Item | None:
        """The item with this id, or None."""
        row = self.delta.row_of(item_id)
        if row is not None:
            return self.delta.items.rows([row])[0]
        base_row = self.generation.items.row_of(item_id)
        if base_row is None or (self.delta.dead_base is not None and self.delta.dead_base[base_row]):
            return None
        return self.generation.items.rows([base_row])[0]

    def rows_where(self, where: str) -> NDArray[np.int64]:
        """The rows that a filter lets through, rising.

        Raises:
            WhereError: a filter that cannot be read.
        """
        condition = parse_where(where)
        base = self.generation.selected(condition)
        base = base if self.delta.dead_base is None else base & ~self.delta.dead_base
        found = self.delta.items.matching(condition)
        found = found[found < len(self.delta.alive)]
        return np.concatenate([np.flatnonzero(base), len(self.generation) + found[self.delta.alive[found]]])

    def ids_at(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """The ids of some rows, in that order."""
        if not len(self.delta.alive):
            return self.generation.ids.many(rows)
        base, rows = len(self.generation), [int(row) for row in rows]
        old = iter(self.generation.ids.many([row for row in rows if row < base]))
        new = iter(self.delta.items.rows([row - base for row in rows if row >= base]))
        return [next(old) if row < base else next(new).id for row in rows]

    def items_at(self, rows: Sequence[int]) -> list[Item]:
        """The items of some rows, in that order."""
        base = len(self.generation)
        old = iter(self.generation.items.rows([row for row in rows if row < base]))
        new = iter(self.delta.items.rows([row - base for row in rows if row >= base]))
        return [next(old) if row < base else next(new) for row in rows]

    def iter_items(self) -> Iterator[Item]:
        """Every item, in row order, without holding them all."""
        dead = self.delta.dead_base
        for row, item in self.generation.items.all():
            if dead is None or not dead[row]:
                yield item
        for row, item in self.delta.items.all():
            if row >= len(self.delta.alive):
                return
            if self.delta.alive[row]:
                yield item

    def iter_vectors(self) -> Iterator[FloatArray]:
        """Every vector in the order of :meth:`iter_items`, in blocks of (<= 16384, D)."""
        start, dead = 0, self.delta.dead_base
        for block in self.generation.ranking.blocks():
            yield block if dead is None else block[~dead[start : start + len(block)]]
            start += len(block)
        if len(self.delta.alive):
            yield self.delta.vectors[self.delta.alive]

    def items(self) -> list[Item]:
        """Every item, in row order."""
        return list(self.iter_items())

    def vectors(self) -> FloatArray:
        """A copy of every vector, (N, D), in row order."""
        blocks = [*self.iter_vectors(), np.empty((0, self.manifest.embedding_dim), np.float32)]
        return np.concatenate(blocks)

    def picture_path(self, item_id: str) -> Path | None:
        """Where the picture of an item lies, or None.

        None as well for an unknown id, a file that is gone, and a file that a link leads out of the image root.
        """
        item = self.get(item_id)
        if item is None or item.path is None or self.manifest.image_root is None:
            return None
        root = self.manifest.image_root.resolve(self.directory)
        if root is None:
            return None
        path = (root / item.path).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None

    def stats(self) -> dict[str, Any]:
        """What ``vlkd index stats`` prints."""
        manifest, measured = self.manifest, self.manifest.measured
        facts = {
            "generation": manifest.generation,
            "sequence": self.sequence,
            "items": len(self),
            "in_log": len(self.delta.alive),
            "dim": manifest.embedding_dim,
            "kind": manifest.kind,
            "structure": manifest.spec.factory or "binary codes",
            "effort": manifest.spec.effort,
            "bytes": sum(entry.size for entry in manifest.files.values()),
            "fingerprint": manifest.fingerprint,
            "space": manifest.space,
            "compatible": manifest.compatible,
            "image_root": None if manifest.image_root is None else str(manifest.image_root),
            "created": manifest.created,
            "degraded": self.degraded,
        }
        if measured is not None:
            facts |= {
                "recall_at_10": measured.recall,
                "recall_queries": f"{measured.queries} {measured.source}",
                "within_budget": measured.met,
                "latency_ms": measured.latency_ms,
                "exact_latency_ms": measured.exact_latency_ms,
                "memory_bytes": measured.memory_bytes,
            }
        return facts

    def close(self) -> None:
        """Close the files of items; the vectors go with the object."""
        self.generation.items.close()

    def _best(
        self, query: FloatArray, k: int, where: str | None, until: float | None = None
    ) -> tuple[list[float], list[int]]:
        """Scores and rows of one query's best, (D,); at least as many scores as rows."""
        if self._alone is not None and where is None and 1 <= k <= _FIRST_DEPTH:
            found = self._alone(query)
            if found is not None:
                return found if k == _FIRST_DEPTH else (found[0][:k], found[1][:k])
        scores, rows = self.search_rows(query[None], k, where, until)
        return scores[0].tolist(), [row for row in rows[0].tolist() if row >= 0]

    def _rank(
        self, queries: FloatArray, depth: int, condition: Condition | None
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """The best rows of generation and log together: (Q, <= depth)."""
        dead = self.delta.dead_base
        selected = None if condition is None else self.generation.selected(condition)
        if dead is not None:
            selected = ~dead if selected is None else selected & ~dead
        scores, rows = self.generation.ranking.rank(queries, depth, selected)
        if len(self.delta.alive):
            new_scores, new_rows = self.delta.rank(queries, depth, condition)
            both = np.concatenate([rows, new_rows + len(self.generation)], axis=1)
            scores, rows = best_of(np.concatenate([scores, new_scores], axis=1), both, depth)
        return scores, rows

    def _ranked_list(self, query: FloatArray, count: int, condition: Condition | None) -> tuple[list[float], list[int]]:
        """A long list for one query whose every beginning is the same, however long a list is asked for.

        An approximate search may order the first ten otherwise when it looks for a hundred. So the list is made of
        fixed stretches: the best 10, then those of the best 100 that are not among them, and so on.
        """
        scores: list[float] = []
        rows: list[int] = []
        depth = _FIRST_DEPTH
        while True:
            found_scores, found_rows = self._rank(query[None], depth, condition)
            known = set(rows)
            for score, row in zip(found_scores[0].tolist(), found_rows[0].tolist(), strict=True):
                if row >= 0 and row not in known and len(rows) < depth:
                    scores.append(score)
                    rows.append(row)
            if len(rows) >= count or found_rows.shape[1] < depth:
                return scores[:count], rows[:count]
            depth *= _NEXT_DEPTH


def _as_arrays(lines: list[tuple[list[float], list[int]]], k: int) -> tuple[FloatArray, NDArray[np.int64]]:
    scores = np.full((len(lines), k), -np.inf, dtype=np.float32)
    rows = np.full((len(lines), k), -1, dtype=np.int64)
    for line, (found_scores, found_rows) in enumerate(lines):
        scores[line, : len(found_rows)] = found_scores
        rows[line, : len(found_rows)] = found_rows
    return scores, rows
