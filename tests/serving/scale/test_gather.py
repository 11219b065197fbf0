"""A search over shards gives what one index of all items gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlkd_serving.index import Hit, IndexReader, Item
from vlkd_serving.scale.gather import merge_hits


def gathered(shards: list[IndexReader], query: np.ndarray, k: int, offset: int = 0, where: str | None = None) -> list:
    lists = [shard.search(query, k + offset, where=where) for shard in shards]
    return merge_hits(lists, k, offset)


@pytest.mark.parametrize("where", [None, "class = 'c3'", "class = 'none'"])
def test_shards_answer_as_the_whole(random_index: Path, random_shards: list[Path], where: str | None) -> None:
    """The same items in the same order with the same scores, for every query and page.

    Only between copies, whose scores are equal, the choice and the order are free: FAISS leaves them open as well.
    """
    whole, shards = IndexReader.open(random_index), [IndexReader.open(each) for each in random_shards]
    assert sum(map(len, shards)) == len(whole) == 1500 and all(300 < len(shard) < 700 for shard in shards)
    queries = np.random.default_rng(6).standard_normal((40, 24)).astype(np.float32)
    compared = 0
    for query in queries:
        for k, offset in ((1, 0), (10, 0), (7, 5), (60, 40)):
            expected = whole.search(query, k, offset=offset, where=where)
            found = gathered(shards, query, k, offset, where)
            np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], atol=1e-6)
            assert [original(hit) for hit in found] == [original(hit) for hit in expected]
            compared += len(found)
    assert compared == {None: 40 * 78, "class = 'none'": 0}.get(where, compared) and (compared or where)


def original(hit: Hit) -> int:
    """Number of the item, or of the one that it is a copy of."""
    number = int(hit.item.id.removeprefix("item-"))
    return number - 1 if number and number % 5 == 0 else number


def test_pages_of_rankings_that_are_not_sorted() -> None:
    """An approximate shard may list a better hit behind a worse one; pages still neither overlap nor leave gaps."""
    generator = np.random.default_rng(0)
    lists = []
    for shard in range(4):
        scores = np.sort(generator.random(30))[::-1] + generator.normal(0, 0.02, 30)
        lists.append([Hit(Item(id=f"{shard}-{n:02d}"), float(score)) for n, score in enumerate(scores)])
    everything = merge_hits(lists, 120)
    assert len(everything) == 120 == len({hit.item.id for hit in everything})
    for page in (1, 7, 10):
        asked = []
        for offset in range(0, 60, page):
            shallow = [hits[: offset + page] for hits in lists]  # what a shard sends for this page
            asked += merge_hits(shallow, page, offset)
        assert asked[:60] == everything[:60]


def test_short_and_empty_shards() -> None:
    """Fewer items than asked for, or none, are no mistake."""
    hits = [Hit(Item(id="b"), 0.5), Hit(Item(id="a"), 0.5)]
    assert merge_hits([[], hits[:1], [], hits[1:]], 10) == [hits[1], hits[0]]
    assert merge_hits([[], []], 3) == [] and merge_hits([hits], 3, offset=2) == []
