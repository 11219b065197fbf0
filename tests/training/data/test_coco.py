from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.coco import read_coco

KARPATHY = {
    "images": [
        {
            "filename": "a.jpg",
            "filepath": "val2014",
            "split": "test",
            "sentences": [{"raw": "A dog. ", "tokens": ["a", "dog"]}],
        },
        {"filename": "b.jpg", "split": "restval", "sentences": [{"raw": "A cat."}]},
    ]
}
CAPTIONS = {
    "images": [{"id": 7, "file_name": "a.jpg"}],
    "annotations": [{"image_id": 7, "caption": "A dog."}, {"image_id": 7, "caption": "One dog."}],
}
QUESTIONS = {
    "data_subtype": "val2014",
    "questions": [{"question_id": 70, "image_id": 7, "question": "What is it?"}],
}
ANNOTATIONS = {
    "annotations": [
        {"question_id": 70, "answer_type": "other", "answers": [{"answer": "dog"}] * 9 + [{"answer": "cat"}]}
    ]
}


def _write(folder: Path, name: str, content: Any, *pictures: str) -> Path:
    for picture in pictures:
        (folder / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(folder / picture)
    (folder / name).write_text(json.dumps(content))
    return folder / name


def test_karpathy(tmp_path: Path) -> None:
    """The split is in each entry, `restval` trains, the text is `raw` (tokens have lost punctuation)."""
    path = _write(tmp_path, "dataset.json", KARPATHY, "val2014/a.jpg", "images/b.jpg")
    (test,) = read_coco(path, "test")
    (train,) = read_coco(path, "train")
    assert (test.id, test.captions) == ("a.jpg", ("A dog.",))
    assert (train.id, train.captions) == ("b.jpg", ("A cat.",))
    with pytest.raises(DataError, match="no split 'validation'; it has: restval, test"):
        list(read_coco(path, "validation"))


def test_coco_captions(tmp_path: Path) -> None:
    """Captions are joined to their picture by its id."""
    (record,) = read_coco(_write(tmp_path, "captions.json", CAPTIONS, "test/a.jpg"), "test")
    assert (record.id, record.captions) == ("7", ("A dog.", "One dog."))


def test_vqav2(tmp_path: Path) -> None:
    """Ten people's answers stay ten; the annotations are found beside the questions."""
    path = _write(
        tmp_path, "v2_OpenEnded_mscoco_val_questions.json", QUESTIONS, "val2014/COCO_val2014_000000000007.jpg"
    )
    with pytest.raises(DataError, match="v2_mscoco_val_annotations.json beside it"):
        list(read_coco(path, "validation"))
    _write(tmp_path, "v2_mscoco_val_annotations.json", ANNOTATIONS)
    (record,) = read_coco(path, "validation")
    assert record.qa[0].question == "What is it?"
    assert len(record.qa[0].answers) == 10
    assert record.qa[0].type == "other"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "got a JSON list"),
        ({"info": 1}, "its keys are info"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": []}, "picture 7 has no caption"),
        (CAPTIONS | {"annotations": [{"image_id": 7, "caption": " "}]}, "picture 7 has no caption or an empty one"),
        (CAPTIONS | {"images": [{"id": 7}]}, "lacks a field .*file_name"),
        (CAPTIONS | {"images": [{"id": 7, "file_name": "gone.jpg"}]}, "gone.jpg is missing; looked in"),
    ],
)
def test_broken_files(tmp_path: Path, content: Any, message: str) -> None:
    """Each says what is wrong in the file, not in our code."""
    with pytest.raises(DataError, match=message):
        list(read_coco(_write(tmp_path, "x.json", content, "a.jpg"), "test"))


def test_question_without_annotation(tmp_path: Path) -> None:
    """Questions of one split beside annotations of another."""
    path = _write(tmp_path, "questions.json", QUESTIONS)
    _write(tmp_path, "annotations.json", {"annotations": []})
    with pytest.raises(DataError, match="question 70 has no annotation"):
        list(read_coco(path, "test"))
