"""Scenes as a stream: the same data as on disk, without the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data import load_records, stream_records
from vlkd_training.data.scenes import SplitPlan, write_split
from vlkd_training.data.webdataset import write_shards


def test_the_stream_equals_the_folder(tmp_path: Path) -> None:
    """A recipe may name either; only the ids differ."""
    write_split(tmp_path, SplitPlan(split="test", number=4, seed=3))
    written, made = load_records(tmp_path, "test"), load_records("scenes:4:3", "test")
    assert len(made) == 4
    for one, other in zip(written, made, strict=True):
        assert one.texts()[1:] == other.texts()[1:]
        assert one.load_image().tobytes() == other.load_image().tobytes()


def test_a_stream_draws_nothing_until_asked() -> None:
    """A million pictures cost what the first three cost."""
    records = list(stream_records("scenes:1000000", "train", 3))
    assert [record.id[-6:] for record in records] == ["000000", "000001", "000002"]


def test_the_fingerprint_tells_seeds_and_numbers_apart() -> None:
    """Caches of features are found by it."""
    prints = [load_records(name, "test").fingerprint for name in ("scenes:3", "scenes:3:0", "scenes:3:1", "scenes:4")]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_shards_of_scenes(tmp_path: Path) -> None:
    """Drawn pictures are encoded without loss on their way into a shard."""
    write_shards(stream_records("scenes:2", "train"), tmp_path, "train")
    read = list(stream_records(f"webdataset:{tmp_path}/{{split}}-*.tar", "train"))
    made = load_records("scenes:2", "train")
    assert [record.texts() for record in read] == [record.texts() for record in made]
    assert read[1].load_image().tobytes() == made[1].load_image().tobytes()


@pytest.mark.parametrize("name", ["scenes:", "scenes:0", "scenes:many", "scenes:5:x"])
def test_names_that_mean_nothing(name: str) -> None:
    """The message shows the right form."""
    with pytest.raises(DataError, match="for example scenes:4000"):
        load_records(name, "train")


def test_an_unknown_split_names_those_there_are() -> None:
    """As for every other format."""
    with pytest.raises(DataError, match="no split 'dev'; it has: train, validation, test, test_compositional"):
        load_records("scenes:5", "dev")
