"""easy-VQA: 64-pixel pictures of one shape with simple questions, inside the ``easy-vqa`` package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError
from vlkd_training.data.records import QuestionAnswer, Record

__all__ = ["read_easy_vqa"]

_SPLITS = ("train", "test")
_YES_NO = ("yes", "no")


def read_easy_vqa(data: str | Path, split: str) -> Iterator[Record]:
    """Read the package's pictures, each with all its questions.

    Args:
        data: ``"easy-vqa"``.
        split: ``"train"`` or ``"test"``; the package has no other.

    Raises:
        DataError: another split.
        MissingDependencyError: the package is not installed.
    """
    if split not in _SPLITS:
        raise DataError(f"{data} has no split {split!r}; it has: {', '.join(_SPLITS)}.")
    package = require("easy_vqa", "dev")
    questions, answers, image_ids = getattr(package, f"get_{split}_questions")()
    paths: dict[int, str] = getattr(package, f"get_{split}_image_paths")()
    asked: dict[int, list[QuestionAnswer]] = {}
    for question, answer, image_id in zip(questions, answers, image_ids, strict=True):
        asked.setdefault(image_id, []).append(QuestionAnswer(question, (answer,), _type(question, answer)))
    for image_id in sorted(asked):
        yield Record(id=str(image_id), qa=tuple(asked[image_id]), image_path=Path(paths[image_id]))


def _type(question: str, answer: str) -> str:
    if answer in _YES_NO:
        return "yes/no"
    return "color" if "color" in question else "shape"
