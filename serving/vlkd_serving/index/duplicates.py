"""Groups of items that are nearly the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.search import SearchView

__all__ = ["DuplicateGroup", "find_duplicates"]

_NEIGHBOURS = 10


@dataclass(frozen=True)
class DuplicateGroup:
    """Items that a chain of near-duplicates joins.

    Args:
        ids: in row order, at least two.
        lowest: the lowest cosine of a pair that joins them.
    """

    ids: tuple[str, ...]
    lowest: float


def find_duplicates(
    view: SearchView, threshold: float, progress: Callable[[int], None] = lambda rows: None
) -> list[DuplicateGroup]:
    """Search each item's own vector and join what is at least ``threshold`` close; the largest groups come first.

    Each item is held against its ten nearest: in a group of more than ten equal items the chain joins them all.

    Args:
        view: the index.
        threshold: cosine in (0, 1].
        progress: called with the number of items done since the last call.

    Raises:
        InvalidInputError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise InvalidInputError(f"The threshold is a cosine in (0, 1], got {threshold}.")
    rows = _rows(view)
    leader = {int(row): int(row) for row in rows}
    joins: list[tuple[int, float]] = []
    start = 0
    for block in view.iter_vectors():
        scores, found = view.search_rows(block, _NEIGHBOURS)
        for row, line, near in zip(rows[start : start + len(block)].tolist(), found, scores, strict=True):
            for other, score in zip(line.tolist(), near.tolist(), strict=True):
                if other >= 0 and other != row and score >= threshold - 1e-6:
                    leader[_leader(leader, other)] = _leader(leader, row)
                    joins.append((row, score))
        start += len(block)
        progress(len(block))
    return _groups(view, leader, joins)


def _groups(view: SearchView, leader: dict[int, int], joins: list[tuple[int, float]]) -> list[DuplicateGroup]:
    members: dict[int, list[int]] = {}
    lowest: dict[int, float] = {}
    for row, score in joins:
        first = _leader(leader, row)
        lowest[first] = min(lowest.get(first, 1.0), score)
    for row in leader:
        first = _leader(leader, row)
        if first in lowest:
            members.setdefault(first, []).append(row)
    groups = [
        DuplicateGroup(tuple(view.ids_at(sorted(rows))), min(1.0, lowest[first])) for first, rows in members.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.ids), group.ids))


def _rows(view: SearchView) -> np.ndarray:
    """The rows of a view in the order of its vectors."""
    base = np.arange(len(view.generation))
    if view.delta.dead_base is not None:
        base = base[~view.delta.dead_base]
    return np.concatenate([base, len(view.generation) + np.flatnonzero(view.delta.alive)])


def _leader(leader: dict[int, int], row: int) -> int:
    while leader[row] != row:
        leader[row] = leader[leader[row]]
        row = leader[row]
    return row
