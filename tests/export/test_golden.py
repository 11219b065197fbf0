"""Golden pictures are the same on every machine, and read from a data set in its order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vlkd_export.golden import drawn_pictures, picture_digest, read_pictures
from vlkd_hub.errors import DataError, InvalidInputError

DRAWN_DIGEST = "fdc66de6839756221165adbada3c29dfa07b6d9cfa09d16fb5b5547b6fa4b571"


def test_the_drawn_set_never_changes() -> None:
    """Every bundle's certificate rests on it: if this fails, old bundles can no longer be verified."""
    assert picture_digest(drawn_pictures()) == DRAWN_DIGEST


def test_the_drawn_set_is_odd() -> None:
    """Thin, tall, tiny, and in every mode that people send."""
    pictures = drawn_pictures()
    assert len(pictures) == 16 and all(picture.question for picture in pictures)
    assert {picture.image.mode for picture in pictures} == {"RGB", "L", "RGBA", "P", "CMYK"}
    ratios = [picture.image.width / picture.image.height for picture in pictures]
    assert min(ratios) < 0.15 and max(ratios) > 8


def write_split(folder: Path, rows: list[str]) -> None:
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def test_pictures_of_a_data_set(tmp_path: Path) -> None:
    """The first ones, in order; questions in turn, so that all kinds come up."""
    qa = [{"question": "one?", "answers": ["a"]}, {"question": "two?", "answers": ["b"]}]
    rows = [{"file_name": f"{n}.png", "captions": [f"c{n}"], "qa": qa if n else []} for n in range(3)]
    write_split(tmp_path / "validation", [json.dumps(row) for row in rows])
    pictures = read_pictures(tmp_path, "validation", 2)
    assert [(p.name, p.question, p.captions) for p in pictures] == [
        ("0.png", None, ("c0",)),
        ("1.png", "two?", ("c1",)),
    ]
    assert len(read_pictures(tmp_path, "validation", 64)) == 3


@pytest.mark.parametrize("row", ["{", "[]", "{}", '{"file_name": "0.png", "qa": [1]}'])
def test_malformed_records_are_told(row: str, tmp_path: Path) -> None:
    """With the file and the line."""
    write_split(tmp_path / "validation", [row])
    with pytest.raises(DataError, match="metadata.jsonl, line 1"):
        read_pictures(tmp_path, "validation", 2)


def test_absent_things_are_told(tmp_path: Path) -> None:
    """No split, no record, no picture."""
    with pytest.raises(DataError, match="is absent"):
        read_pictures(tmp_path, "validation", 2)
    write_split(tmp_path / "empty", [])
    with pytest.raises(DataError, match="holds no picture"):
        read_pictures(tmp_path, "empty", 2)
    write_split(tmp_path / "gone", ['{"file_name": "gone.png"}'])
    with pytest.raises(InvalidInputError, match="gone.png"):
        read_pictures(tmp_path, "gone", 2)


def test_the_digest_sees_pixels_modes_and_questions() -> None:
    """Whatever could change an answer."""
    from dataclasses import replace

    first = drawn_pictures()[0]
    digests = {
        picture_digest([picture])
        for picture in (
            first,
            replace(first, question="another?"),
            replace(first, image=first.image.convert("L")),
            replace(first, image=first.image.rotate(180)),
        )
    }
    assert len(digests) == 4
