"""A seeded list of changes to an index, the contents that it must go through, and a check of what is found on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index import Budget, IndexReader, IndexWriter, Item, LiveWriter

SPACE = "ab" * 32
DIM = 16
Content = dict[str, int]
"""Version by id."""


@dataclass(frozen=True)
class Change:
    """``build`` replaces everything, ``add`` and ``drop`` write a generation, ``put`` and ``remove`` go to the log."""

    kind: str
    put: tuple[tuple[str, int], ...] = ()
    removed: tuple[str, ...] = ()


def vector(item_id: str, version: int) -> np.ndarray:
    """The vector of a version of an item."""
    seed = [*item_id.encode(), version]
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def changes(seed: int, count: int = 9) -> list[Change]:
    """A list of changes that starts with a build and holds every kind."""
    rng = np.random.default_rng(seed)
    kinds = ["put", "remove", "compact", "put", "add", "put", "drop", "build", *rng.choice(["put", "remove"], 20)]
    kinds = ["build", *rng.permutation(kinds[:8]), *kinds[8:]][:count]
    made, content = [], Content()
    for number, kind in enumerate(kinds, start=1):
        if kind in ("remove", "drop"):
            gone = tuple(str(i) for i in rng.choice(sorted(content), size=min(3, len(content)), replace=False))
            change = Change(kind, removed=gone)
        elif kind == "compact":
            change = Change(kind)
        else:
            size = int(rng.integers(4, 40)) if kind == "build" else int(rng.integers(1, 5))
            new = [(f"i{number}-{n}", number) for n in range(size)]
            again = [] if kind == "build" else rng.choice(sorted(content), size=min(2, len(content)))
            old = [(str(i), number) for i in again]
            change = Change(kind, put=tuple(dict([*new, *old]).items()))
        made.append(change)
        content = after(content, change)
    return made


def after(content: Content, change: Change) -> Content:
    """What a change makes of a content."""
    kept = {} if change.kind == "build" else {i: v for i, v in content.items() if i not in change.removed}
    return kept | dict(change.put)


def states(made: list[Change]) -> list[Content]:
    """The content before the first change, after it, and so on."""
    found = [Content()]
    for change in made:
        found.append(after(found[-1], change))
    return found


def perform(directory: Path, change: Change, budget: Budget) -> None:
    """Make one change; it is confirmed when this returns."""
    items = [Item(id=item_id, metadata={"v": version}) for item_id, version in change.put]
    vectors = np.stack([vector(*pair) for pair in change.put]) if change.put else np.empty((0, DIM), np.float32)
    if change.kind in ("build", "add", "drop"):
        with IndexWriter(directory, SPACE) as writer:
            if change.kind == "build":
                writer.build(items, vectors, None, budget=budget)
            elif change.kind == "add":
                writer.add(items, vectors, None)
            else:
                writer.remove(change.removed)
        return
    with LiveWriter(directory) as live_writer:
        if change.kind == "put":
            live_writer.put(items, vectors)
        elif change.kind == "remove":
            live_writer.remove(change.removed)
        else:
            live_writer.compact()


def run(directory: Path, made: list[Change], budget: Budget, confirmed: Callable[[int], None]) -> None:
    """Make every change, telling the number of each that was confirmed."""
    for number, change in enumerate(made, start=1):
        perform(directory, change, budget)
        confirmed(number)


def repeat(directory: Path, change: Change, budget: Budget) -> None:
    """Make a change whose first attempt was not confirmed; removing what is gone already is no mistake then."""
    try:
        perform(directory, change, budget)
    except InvalidInputError as error:
        assert change.removed and "not in the index" in str(error)


def content_of(directory: Path) -> Content:
    """What is on the disk, with every vector checked against its version; empty where there is no index yet."""
    from vlkd_hub.errors import BundleError
    from vlkd_serving.index import IndexCorruptError

    try:
        reader = IndexReader.open(directory, SPACE)
    except IndexCorruptError:
        raise
    except BundleError:
        return {}
    assert reader.degraded is None, reader.degraded
    found = Content()
    for item, row in zip(reader.iter_items(), reader.vectors(), strict=True):
        expected = vector(item.id, item.metadata["v"])
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=2e-3)
        assert item.id not in found
        found[item.id] = item.metadata["v"]
        assert reader.get(item.id) == item
    reader.close()
    return found


def budgets() -> Iterator[Budget]:
    """An exact structure and one with kept vectors, in turn."""
    while True:
        yield Budget()
        yield Budget(kind="flat", codec="int8", recall=0.1)
