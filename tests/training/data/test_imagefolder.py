from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.imagefolder import read_imagefolder
from vlkd_training.data.records import Hypothesis

from .conftest import WriteSplit


def test_reads_lines_in_order(write_split: WriteSplit) -> None:
    """Caches and indexes find pictures by position."""
    lines = [{"file_name": name, "captions": [name]} for name in ("b.png", "a.png")]
    records = list(read_imagefolder(write_split(lines), "test"))
    assert [record.id for record in records] == ["b.png", "a.png"]
    assert records[0].load_image().size == (4, 4)


def test_missing_split_lists_those_that_are(write_split: WriteSplit, tmp_path: Path) -> None:
    """`val` for `validation` is the commonest mistake; a half-written split is not one to offer."""
    folder = write_split([{"file_name": "a.png"}], "validation")
    write_split([{"file_name": "a.png"}], "train")
    write_split([{"file_name": "a.png"}], ".test.partial")
    with pytest.raises(DataError, match="no split 'val'; it has: train, validation\\.$"):
        list(read_imagefolder(folder, "val"))
    with pytest.raises(DataError, match="gone is no folder"):
        list(read_imagefolder(tmp_path / "gone", "test"))
    with pytest.raises(DataError, match="holds no split: expected <split>/metadata.jsonl"):
        list(read_imagefolder(tmp_path, "test"))


def test_line_without_file_name(write_split: WriteSplit) -> None:
    """Without it no picture goes with the texts."""
    folder = write_split([{"file_name": "a.png"}, json.dumps({"captions": ["a dog"]})])
    with pytest.raises(DataError, match="metadata.jsonl, line 2: no 'file_name'"):
        list(read_imagefolder(folder, "test"))


def test_missing_picture_is_found_at_opening(write_split: WriteSplit) -> None:
    """Not after an hour of training."""
    folder = write_split([{"file_name": "a.png"}])
    (folder / "test" / "a.png").unlink()
    with pytest.raises(DataError, match="line 1: the picture .*a.png is missing"):
        list(read_imagefolder(folder, "test"))


def test_snli_ve_beside_the_folder_is_joined(write_split: WriteSplit, tmp_path: Path) -> None:
    """Its sentences speak of flickr30k's pictures, by a path from the common parent; other splits' do not count."""
    folder = write_split([{"file_name": "a.png"}, {"file_name": "b.png"}], folder="photos")
    (tmp_path / "snli_ve").mkdir()
    pairs = [
        {"image": "photos/test/a.png", "hypothesis": "a dog", "label": "neutral"},
        {"image": "photos/train/b.png", "hypothesis": "a cat", "label": "neutral"},
    ]
    (tmp_path / "snli_ve" / "test.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    first, second = read_imagefolder(folder, "test")
    assert first.hypotheses == (Hypothesis("a dog", "neutral"),)
    assert second.hypotheses == ()
