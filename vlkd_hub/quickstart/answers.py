"""One caption and one question, answered in this process from the bundle alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError

__all__ = ["Answers", "ask"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the student said of one picture, beside the truth."""

    picture: str
    caption: str
    reference: str
    """One of the captions that the data set has for the picture."""
    question: str
    answer: str
    truth: str


def ask(bundle: Path, split: Path) -> Answers:
    """Caption the first picture of ``split`` and ask its first question about a colour.

    Args:
        bundle: an exported student.
        split: a folder with ``metadata.jsonl`` and pictures.

    Raises:
        DataError: the split has no picture with a caption and a question.
        MissingDependencyError: onnxruntime is not installed.
    """
    require("onnxruntime", "serve")
    from PIL import Image

    from vlkd_hub.runtime import OnnxStudent

    record = _first_record(split)
    asked = next((item for item in record["qa"] if item["type"] == "color"), record["qa"][0])
    path = split / record["file_name"]
    with Image.open(path) as file:
        picture = file.convert("RGB")
    student = OnnxStudent.from_pretrained(bundle)
    return Answers(
        picture=str(path),
        caption=student.caption([picture])[0],
        reference=record["captions"][0],
        question=asked["question"],
        answer=student.answer([picture], [asked["question"]])[0],
        truth=", ".join(asked["answers"]),
    )


def _first_record(split: Path) -> dict[str, Any]:
    path = split / "metadata.jsonl"
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record.get("captions") and record.get("qa"):
                    return dict(record)
    raise DataError(
        f"{path} has no picture with a caption and a question; make the data again: vlkd quickstart --fresh"
    )
