"""Scenes made while they are read: ``scenes:4000`` needs no folder, and each picture is drawn when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vlkd_hub.errors import DataError
from vlkd_training.data.fields import record_from_fields
from vlkd_training.data.records import Record
from vlkd_training.data.scenes.examples import make_example
from vlkd_training.data.scenes.vocabulary import SPLITS
from vlkd_training.data.scenes.world import GENERATOR_VERSION

__all__ = ["SCHEME", "read_scenes"]

SCHEME = "scenes:"
_SIZE = 160
_NAME = re.compile(r"scenes:(\d+)(?::(\d+))?")


def read_scenes(data: str | Path, split: str) -> Iterator[Record]:
    """Make the first pictures of a split, as ``vlkd scenes`` with 160 pixels would.

    Args:
        data: ``scenes:NUMBER`` or ``scenes:NUMBER:SEED``; the number of pictures of whichever split.
        split: ``train``, ``validation``, ``test`` or ``test_compositional``.

    Raises:
        DataError: the name cannot be read, or the split is unknown.
    """
    found = _NAME.fullmatch(str(data))
    if found is None or int(found[1]) < 1:
        raise DataError(f"Expected scenes:NUMBER or scenes:NUMBER:SEED, for example scenes:4000; got {str(data)!r}.")
    if split not in SPLITS:
        raise DataError(f"{data} has no split {split!r}; it has: {', '.join(SPLITS)}.")
    seed = int(found[2] or 0)
    for index in range(int(found[1])):
        example = make_example(split, index, seed=seed, size=_SIZE)
        name = f"scenes/v{GENERATOR_VERSION}/{seed}/{_SIZE}/{split}/{index:06d}"
        yield record_from_fields(example.metadata, name, id=name, draw=example.draw)
