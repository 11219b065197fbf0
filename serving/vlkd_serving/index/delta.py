"""What the log changed since a generation, in memory: appended vectors and items, and rows that count no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index.generation import Generation
from vlkd_serving.index.items import Item, ItemStore
from vlkd_serving.index.ranking import best_of
from vlkd_serving.index.vectors import FloatArray
from vlkd_serving.index.wal import Record
from vlkd_serving.index.where import Condition

__all__ = ["Delta", "DeltaState"]

_FIRST_ROWS = 256


@dataclass(frozen=True)
class Delta:
    """An unchanging view of a :class:`DeltaState`: its first ``len(alive)`` rows.

    Args:
        vectors: (n, D).
        items: their items; rows from n on belong to later views.
        alive: (n,) whether a row was neither replaced nor removed.
        dead_base: (N,) which rows of the generation were, or None where none was.
        sequence: the last change in it.
    """

    vectors: FloatArray
    items: ItemStore
    alive: NDArray[np.bool_]
    dead_base: NDArray[np.bool_] | None
    sequence: int

    @property
    def size_change(self) -> int:
        """How many more items there are than in the generation; may be negative."""
        return int(self.alive.sum()) - (0 if self.dead_base is None else int(self.dead_base.sum()))

    @property
    def empty(self) -> bool:
        """Whether the generation alone is the content."""
        return not len(self.alive) and self.dead_base is None

    def rank(
        self, queries: FloatArray, depth: int, condition: Condition | None
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """The best rows of the view by exact cosine: scores and rows, (Q, <= depth)."""
        rows = np.flatnonzero(self.alive)
        if condition is not None:
            rows = np.intersect1d(rows, self.items.matching(condition), assume_unique=True)
        if not len(rows):
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        chosen = self.vectors if len(rows) == len(self.vectors) else self.vectors[rows]
        scores = queries @ chosen.T
        return best_of(scores, np.broadcast_to(rows, scores.shape), min(depth, len(rows)))

    def row_of(self, item_id: str) -> int | None:
        """The row of an id, or None."""
        row = self.items.last_row_of(item_id, len(self.alive))
        return row if row is not None and self.alive[row] else None


class DeltaState:
    """Takes records in and gives views out. One thread at a time may call it; views are free.

    Args:
        generation: what the records change.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._items = ItemStore.in_memory()
        self._vectors = np.empty((_FIRST_ROWS, generation.manifest.embedding_dim), dtype=np.float32)
        self._alive = np.empty(_FIRST_ROWS, dtype=np.bool_)
        self._count = 0
        self._latest: dict[str, int] = {}
        self._dead_base: NDArray[np.bool_] | None = None
        self._dead_shared = False

    def apply(self, records: Sequence[Record]) -> None:
        """Take in changes, in order."""
        for record in records:
            for item_id in (*record.removed, *(item.id for item in record.put)):
                self._end(item_id)
            self._append(record.put, record.vectors)

    def view(self, sequence: int) -> Delta:
        """What there is now, which later changes leave as it is."""
        self._dead_shared = True
        alive = self._alive[: self._count].copy()
        return Delta(self._vectors[: self._count], self._items, alive, self._dead_base, sequence)

    def _end(self, item_id: str) -> None:
        row = self._latest.pop(item_id, None)
        if row is not None:
            self._alive[row] = False
            return
        base_row = self._generation.items.row_of(item_id)
        if base_row is None or (self._dead_base is not None and self._dead_base[base_row]):
            return
        if self._dead_base is None:
            self._dead_base = np.zeros(len(self._generation), dtype=np.bool_)
        elif self._dead_shared:
            self._dead_base = self._dead_base.copy()
        self._dead_shared = False
        self._dead_base[base_row] = True

    def _append(self, items: Sequence[Item], vectors: FloatArray) -> None:
        end = self._count + len(items)
        if end > len(self._alive):  # views keep the old arrays
            rows = max(end, 2 * len(self._alive))
            vectors_now, alive_now = self._vectors[: self._count], self._alive[: self._count]
            self._vectors = np.empty((rows, self._vectors.shape[1]), dtype=np.float32)
            self._alive = np.empty(rows, dtype=np.bool_)
            self._vectors[: self._count], self._alive[: self._count] = vectors_now, alive_now
        self._vectors[self._count : end] = vectors
        self._alive[self._count : end] = True
        self._items.append(self._count, items)
        for row, item in enumerate(items, start=self._count):
            earlier = self._latest.get(item.id)  # the same id twice in one record: the later one counts
            if earlier is not None:
                self._alive[earlier] = False
            self._latest[item.id] = row
        self._count = end
