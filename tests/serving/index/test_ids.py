"""Ids come back as they were given, a few or many at a time, in any script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vlkd_serving.index import ids as ids_module
from vlkd_serving.index.ids import IdTable


@pytest.mark.parametrize(
    "ids",
    [
        [f"item-{number}" for number in range(300)],
        [f"{number}-日本 é" if number % 3 else "" for number in range(300)],
        ["x" * (number % 7) for number in range(300)],
    ],
    ids=["ascii", "other scripts and none", "lengths"],
)
def test_many_ids_are_those_of_their_rows(ids: list[str], tmp_path: Path) -> None:
    IdTable.of(ids).write(tmp_path / "ids.bin")
    rng = np.random.default_rng(0)
    path = tmp_path / "ids.bin"
    for table in (IdTable.of(ids), IdTable.read(path), IdTable.read(path, in_memory=True)):
        for count in (0, 1, 64, 65, 1000):
            rows = rng.integers(0, len(ids), count)
            expected = [ids[row] for row in rows]
            assert table.many(rows) == table.many(rows.tolist()) == expected
        assert [table[row] for row in (0, 299)] == [ids[0], ids[299]]


@pytest.mark.parametrize(
    ("ids", "packed"),
    [
        (["a", "bb", "日本", ""], True),
        (["x" * 32, ""], True),
        (["x" * 33, "y"], False),
        (["ends\0", "y"], False),
        (["in\0side", "y"], True),
        ([""], False),
        ([], False),
    ],
)
def test_ids_in_rows_of_equal_length(ids: list[str], packed: bool, tmp_path: Path) -> None:
    """Only where none is long and none ends with what fills the rows up; the ids are the same either way."""
    IdTable.of(ids).write(tmp_path / "ids.bin")
    table = IdTable.read(tmp_path / "ids.bin", in_memory=True)
    assert (table._packed is not None) is packed
    for rows in (list(range(len(ids))), np.arange(len(ids))[::-1], []):
        assert table.many(rows) == [ids[row] for row in rows]


def test_many_blocks_of_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids_module, "_BLOCK", 7)
    ids = ["x" * (number % 5) + str(number) for number in range(100)]
    IdTable.of(ids).write(tmp_path / "ids.bin")
    assert IdTable.read(tmp_path / "ids.bin", in_memory=True).many(range(100)) == ids
