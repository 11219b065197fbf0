"""Classes as numbers, from class folders and from records."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.class_labels import class_labels
from vlkd_training.data.open import data_format, load_records
from vlkd_training.data.records import Record, RecordDataset


def records(*labels: str | None) -> RecordDataset:
    made = [Record(id=str(n), label=label, image_bytes=b"x") for n, label in enumerate(labels)]
    return RecordDataset(made, "some data")


def test_class_folders(tmp_path: Path) -> None:
    """``<split>/<class>/picture`` as ImageNet lies on a disk; ``val`` is the validation split."""
    for split, count in (("train", 2), ("val", 1)):
        for number, name in enumerate(("zebra", "ant")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for picture in range(count):
                Image.new("RGB", (8, 8), (100 * number, 0, 0)).save(folder / f"{picture}.JPEG")
    assert data_format(tmp_path) == "hub"
    train = load_records(tmp_path, "train")
    classes, labels = class_labels(train)
    assert classes == ["ant", "zebra"] and sorted(labels) == [0, 0, 1, 1]
    assert [train[row].label for row in range(4)] == [classes[label] for label in labels]
    assert train[labels.index(0)].load_image().getpixel((0, 0))[0] == pytest.approx(100, abs=2)
    assert class_labels(load_records(tmp_path, "validation"), classes)[1] == [0, 1]


def test_names_in_order() -> None:
    assert class_labels(records("b", "a", "b")) == (["a", "b"], [1, 0, 1])
    assert class_labels(records("b", "b"), ["z", "b"]) == (["z", "b"], [1, 1])


def test_what_has_no_classes() -> None:
    with pytest.raises(DataError, match="record 1 has no class"):
        class_labels(records("a", None))
    with pytest.raises(DataError, match="only the class 'a'"):
        class_labels(records("a", "a"))
    with pytest.raises(DataError, match="'c', which the training split does not have"):
        class_labels(records("a", "c"), ["a", "b"])
