"""Vectors in parts: whole or not there, and an index of all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vlkd_hub.errors import DataError
from vlkd_serving.index import IndexReader, Item
from vlkd_serving.index.build import Embedded, Skipped
from vlkd_serving.index.parts import PartSet, read_record, whole_part, write_part

MADE_BY = "ab" * 32


def write(folder: Path, number: int, rows: int, **changed: object) -> None:
    """A part of so many items."""
    vectors = np.random.default_rng(number).standard_normal((rows, 8)).astype(np.float32)
    items = [Item(id=f"{number}/é{n}", path=f"{number}-{n}.png", metadata={"n": n}) for n in range(rows)]
    found = Embedded(items, vectors, (Skipped(f"{number}/bad", "cut short"),))
    write_part(folder, number, found, **{"source": "s", "fingerprint": MADE_BY, "dim": 8, **changed})  # type: ignore[arg-type]


def test_a_part_is_whole_only_as_it_was_written(tmp_path: Path) -> None:
    """Other pictures, another model, a byte more or another, a file less: it is made again."""
    write(tmp_path, 3, 5)
    record = whole_part(tmp_path, 3, "s", MADE_BY)
    assert record is not None and (record.rows, record.skipped) == (5, [["3/bad", "cut short"]])
    assert whole_part(tmp_path, 3, "other", MADE_BY) is None and whole_part(tmp_path, 3, "s", "cd" * 32) is None
    assert whole_part(tmp_path, 4, "s", MADE_BY) is None
    for name in ("part-000003.npy", "part-000003.jsonl", "part-000003.json"):
        good = (tmp_path / name).read_bytes()
        for bad in (good[:-1], good + b" ", good[:-1] + b"X", b""):
            (tmp_path / name).write_bytes(bad)
            changed = name.endswith(".json") and bad == good + b" "  # a blank behind JSON changes nothing
            assert (whole_part(tmp_path, 3, "s", MADE_BY) is None) != changed, (name, bad[-10:])
        (tmp_path / name).unlink()
        assert whole_part(tmp_path, 3, "s", MADE_BY) is None
        (tmp_path / name).write_bytes(good)
    assert whole_part(tmp_path, 3, "s", MADE_BY) is not None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_set_of_parts_is_one_source(tmp_path: Path) -> None:
    """Items and vectors in the order of the parts; one without a picture that could be read adds nothing."""
    for number, rows in ((0, 3), (1, 0), (2, 4)):
        write(tmp_path, number, rows)
    parts = PartSet(tmp_path)
    assert parts.shape == (7, 8) and parts.fingerprint == MADE_BY
    assert [item.id for item in parts.items()] == [f"0/é{n}" for n in range(3)] + [f"2/é{n}" for n in range(4)]
    assert next(iter(parts.items())).metadata == {"n": 0}
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(list(parts.blocks())), axis=1), 1, rtol=1e-5)


def test_sets_that_cannot_be_trusted(tmp_path: Path) -> None:
    """Each mistake names the file or what to do."""
    with pytest.raises(DataError, match="holds no part"):
        PartSet(tmp_path)
    write(tmp_path, 0, 0)
    with pytest.raises(DataError, match="Not one picture"):
        PartSet(tmp_path)
    write(tmp_path, 1, 2)
    write(tmp_path, 2, 2, fingerprint="cd" * 32)
    with pytest.raises(DataError, match="more than one model"):
        PartSet(tmp_path)
    write(tmp_path, 2, 2)
    (tmp_path / "part-000001.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"part-000001\.npy is missing or damaged"):
        PartSet(tmp_path)
    (tmp_path / "part-000001.json").write_text("[]")
    with pytest.raises(DataError, match="not the record"):
        read_record(tmp_path / "part-000001.json")


def test_a_record_names_no_file_elsewhere(tmp_path: Path) -> None:
    """A part from somebody else must not make us read outside of its folder."""
    write(tmp_path, 0, 2)
    path = tmp_path / "part-000000.json"
    record = json.loads(path.read_text())
    record["files"]["../outside.npy"] = record["files"].pop("part-000000.npy")
    (tmp_path.parent / "outside.npy").write_bytes((tmp_path / "part-000000.npy").read_bytes())
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="damaged"):
        PartSet(tmp_path)


def test_index_load_takes_a_folder(tmp_path: Path) -> None:
    """`vlkd index load --vectors FOLDER`, and its own mistakes."""
    from vlkd_hub.cli import app

    parts = tmp_path / "parts"
    parts.mkdir()
    for number in range(2):
        write(parts, number, 20)
    command = ["index", "load", str(tmp_path / "index"), "--vectors", str(parts), "--space", "made"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    reader = IndexReader.open(tmp_path / "index")
    assert len(reader) == 40 and reader.manifest.space == "made"
    vector = np.load(parts / "part-000001.npy")[7]
    assert reader.search(vector, 1)[0].item == Item(id="1/é7", path="1-7.png", metadata={"n": 7})
    done = CliRunner().invoke(app, [*command, "--ids", "ids.txt"])
    assert "leave out --ids" in str(done.exception)
