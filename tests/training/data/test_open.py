from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.open import FORMATS, data_format, load_records, stream_records

from .conftest import WriteSplit


def test_format_by_what_it_is(write_split: WriteSplit, tmp_path: Path) -> None:
    """Each name goes to one reader, and each reader has a name."""
    found = {
        data_format(write_split([{"file_name": "a.png"}])),
        data_format("easy-vqa"),
        data_format("scenes:4"),
        data_format("webdataset:x-*.tar"),
        data_format("owner/name"),
    }
    (tmp_path / "a.json").write_text("{}")
    found.add(data_format(tmp_path / "a.json"))
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "test.jsonl").write_text("")
    found.add(data_format(tmp_path / "pairs"))
    assert found == set(FORMATS)


def test_wrong_paths_are_no_hub_ids(tmp_path: Path) -> None:
    """A mistyped path must not become a request to a hub."""
    for wrong in (tmp_path / "gone", "./gone", "/gone/data", "a/b/c", "gone.json"):
        with pytest.raises(DataError, match="is not there"):
            data_format(wrong)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DataError, match="a.csv is a file of unknown kind"):
        data_format(tmp_path / "a.csv")


def test_limit(write_split: WriteSplit) -> None:
    """Only the first records are read: the second line here is broken."""
    folder = write_split([{"file_name": "a.png"}, "{"])
    assert [record.id for record in load_records(folder, "test", 1)] == ["a.png"]
    assert [record.id for record in stream_records(folder, "test", 1)] == ["a.png"]
    with pytest.raises(DataError, match="line 2"):
        load_records(folder, "test")
    with pytest.raises(DataError, match="at least 1, got 0"):
        load_records(folder, "test", 0)


def test_shards_are_not_held_whole() -> None:
    """They carry their pictures: a whole set would fill the memory."""
    with pytest.raises(DataError, match="give a limit"):
        load_records("webdataset:x-*.tar", "train")


def test_two_records_of_one_picture(write_split: WriteSplit) -> None:
    """Recall would count the second as a wrong answer to the first."""
    with pytest.raises(DataError, match="share the id 'a.png'"):
        load_records(write_split([{"file_name": "a.png"}] * 2), "test")


def test_empty_split(write_split: WriteSplit) -> None:
    """An empty metadata file is a failed export, not a data set."""
    with pytest.raises(DataError, match="holds no record"):
        load_records(write_split([]), "test")


@pytest.mark.parametrize(
    ("name", "count", "check"),
    [
        ("flickr30k", 500, lambda record: len(record.captions) == 5),
        ("daquar", 399, lambda record: all(item.answers for item in record.qa) and record.qa),
        ("ucm_captions", 210, lambda record: len(record.captions) == 5 and record.label),
        ("imagenet_sample", 500, lambda record: record.label),
        ("nlvr", 990, lambda record: record.hypotheses[0].label in ("true", "false")),
        ("snli_ve", 52, lambda record: record.hypotheses),
    ],
)
def test_real_sets(shared_data: Path, name: str, count: int, check: object) -> None:
    """People's data, as it is: every record of the test split has its texts, and pictures open."""
    records = load_records(shared_data / name, "test")
    assert len(records) == count
    assert callable(check) and all(check(record) for record in records)
    for record in (records[0], records[-1]):
        picture = record.load_image()
        assert picture.mode == "RGB" and min(picture.size) >= 100


def test_snli_ve_reaches_flickr30k(shared_data: Path) -> None:
    """Opened either way, the same 1,239 sentences of the test split."""
    by_photo = sum(len(record.hypotheses) for record in stream_records(shared_data / "flickr30k", "test"))
    by_pairs = sum(len(record.hypotheses) for record in stream_records(shared_data / "snli_ve", "test"))
    assert by_photo == by_pairs == 1239
