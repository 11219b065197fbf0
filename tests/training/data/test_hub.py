from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.hub import HubRecords, hub_pieces, read_hub

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra: train)")


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local data set of two rows, in parquet, whose cache stays in the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.List(datasets.Value("string")),
            "question": datasets.Value("string"),
            "answer": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "other": datasets.Value("string"),
        }
    )
    rows = {
        "image": [Image.new("RGB", (2, 3), color) for color in ("red", "blue")],
        "caption": [["a red thing"], ["a blue thing", "blue"]],
        "question": ["what color?", None],
        "answer": ["red", None],
        "label": [1, 0],
        "other": ["first words", "second words"],
    }
    folder = tmp_path / "parquet"
    folder.mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def test_columns_are_found_by_name(parquet: Path) -> None:
    """Position and stream give the same records; pictures stay encoded until asked for."""
    records = HubRecords.open(parquet, "train")
    assert list(read_hub(parquet, "train")) == list(records) == records[0:2]
    first, second = records
    assert first.captions == ("a red thing",)
    assert (first.qa[0].question, first.qa[0].answers) == ("what color?", ("red",))
    assert first.label == "dog"
    assert first.load_image().getpixel((0, 0)) == (255, 0, 0)
    assert second.qa == () and second.id == "1"


def test_pieces_of_a_stream_have_ids_of_their_own(parquet: Path) -> None:
    """Rows are counted in each piece; two pictures with one id would not be each other's negatives."""
    first = parquet / "train-00000-of-00001.parquet"
    shutil.copyfile(first, parquet / "train-00000-of-00002.parquet")
    first.rename(parquet / "train-00001-of-00002.parquet")
    assert hub_pieces(parquet, "train") == 2
    pieces = [list(read_hub(parquet, "train", (number, 2))) for number in range(2)]
    assert [record.id for piece in pieces for record in piece] == ["0-0", "0-1", "1-0", "1-1"]


def test_limit_and_column_overrides(parquet: Path) -> None:
    """A set that names its columns otherwise is told how."""
    (record,) = HubRecords.open(parquet, "train", limit=1, columns={"captions": "other"})
    assert record.captions == ("first words",)
    with pytest.raises(DataError, match="No such field: caption"):
        HubRecords.open(parquet, "train", columns={"caption": "other"})
    with pytest.raises(DataError, match="no column gone; it has: image, caption"):
        HubRecords.open(parquet, "train", columns={"captions": "gone"})
    with pytest.raises(DataError, match="row 0: column 'other' holds no picture: str"):
        list(HubRecords.open(parquet, "train", columns={"image": "other"}))


def test_missing_split_and_set(parquet: Path) -> None:
    """The message carries the library's own, which lists the splits; offline it says so."""
    with pytest.raises(DataError, match="no split 'test', or is no data set: .*train"):
        HubRecords.open(parquet, "test")
    with pytest.raises(DataError, match="'some/set' cannot be opened: .*HF_HUB_OFFLINE is set"):
        HubRecords.open("some/set", "train")


def test_no_column_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text set cannot be used here."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no column of pictures; its columns are text"):
        HubRecords.open(tmp_path, "train")
