"""Ids come back as they were given, a few or many at a time, in any script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
    for table in (IdTable.of(ids), IdTable.read(tmp_path / "ids.bin")):
        for count in (0, 1, 64, 65, 1000):
            rows = rng.integers(0, len(ids), count)
            expected = [ids[row] for row in rows]
            assert table.many(rows) == table.many(rows.tolist()) == expected
        assert [table[row] for row in (0, 299)] == [ids[0], ids[299]]
