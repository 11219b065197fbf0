"""One ranking from those of several shards."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from vlkd_serving.index import Hit

__all__ = ["ShardAnswer", "merge_hits"]


@dataclass(frozen=True)
class ShardAnswer:
    """What one shard found.

    Args:
        generation: of the shard that answered.
        degraded: why the shard is not in its newest state, or None.
        hits: best first.
    """

    generation: int
    degraded: str | None
    hits: list[Hit]


def merge_hits(lists: Sequence[Sequence[Hit]], k: int, offset: int = 0) -> list[Hit]:
    """The ``k`` best of all after the first ``offset``.

    Of equal scores in two shards the smaller id comes first: as in an index of a folder, whose rows are sorted by id.
    Only the heads of the lists are compared, so that the first n of the result depend on the first n of each list
    alone, and pages never overlap, whatever length was asked for.

    Args:
        lists: a ranking a shard, at least ``offset + k`` long where the shard has so many.
        k: how many.
        offset: how many to leave out.
    """
    heads = [(-hits[0].score, hits[0].item.id, shard, 0) for shard, hits in enumerate(lists) if hits]
    heapq.heapify(heads)
    found: list[Hit] = []
    while heads and len(found) < offset + k:
        _, _, shard, place = heads[0]
        found.append(lists[shard][place])
        if place + 1 < len(lists[shard]):
            following = lists[shard][place + 1]
            heapq.heapreplace(heads, (-following.score, following.item.id, shard, place + 1))
        else:
            heapq.heappop(heads)
    return found[offset:]
