"""From the fields of an annotation to a record; the same rules for every format that has such fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.records import Hypothesis, QuestionAnswer, Record, Region

__all__ = ["record_from_fields"]

_LABEL_FIELDS = ("class", "class_name")


def record_from_fields(
    fields: dict[str, Any],
    where: str,
    *,
    id: str,
    image_path: Path | None = None,
    image_bytes: bytes | None = None,
    draw: Callable[[], Image.Image] | None = None,
    hypotheses: Sequence[Hypothesis] = (),
) -> Record:
    """Build a record from ``captions``, ``qa``, ``entailment``, ``sentence`` + ``label``, ``regions``, ``class``.

    Args:
        fields: of one picture; unknown fields are left alone.
        where: file and line, for messages.
        id: unique in the split.
        image_path: the picture, or else
        image_bytes: the encoded picture, or else
        draw: makes the picture.
        hypotheses: sentences known from elsewhere, before those in ``fields``.

    Raises:
        DataError: a field has another shape than it should, or a caption, a question or an answer is empty.
    """
    label = next((fields[name] for name in _LABEL_FIELDS if fields.get(name) is not None), None)
    return Record(
        id=id,
        captions=_captions(fields, where),
        qa=tuple(_question(item, where) for item in _items(fields, "qa", where)),
        hypotheses=(*hypotheses, *_hypotheses(fields, where)),
        label=None if label is None else str(label),
        regions=tuple(_region(item, where) for item in _items(fields, "regions", where)),
        image_path=image_path,
        image_bytes=image_bytes,
        draw=draw,
    )


def _captions(fields: dict[str, Any], where: str) -> tuple[str, ...]:
    found = fields.get("captions")
    if found is None:
        return ()
    if not isinstance(found, list) or not found:
        raise DataError(f"{where}: 'captions' must be a list of sentences and not empty, got {found!r}.")
    return tuple(_text(caption, "caption", where) for caption in found)


def _question(item: Any, where: str) -> QuestionAnswer:
    question = _text(_field(item, "question", where), "question", where)
    answers = _field(item, "answers", where)
    if not isinstance(answers, list) or not answers:
        raise DataError(f"{where}: 'answers' of {question!r} must be a list and not empty, got {answers!r}.")
    return QuestionAnswer(question, tuple(_text(answer, "answer", where) for answer in answers), item.get("type"))


def _hypotheses(fields: dict[str, Any], where: str) -> list[Hypothesis]:
    found = [
        Hypothesis(
            _text(_field(item, "hypothesis", where), "hypothesis", where), str(_field(item, "label", where)).lower()
        )
        for item in _items(fields, "entailment", where)
    ]
    if "sentence" in fields:  # NLVR: one sentence, true or false
        found.append(
            Hypothesis(_text(fields["sentence"], "sentence", where), str(_field(fields, "label", where)).lower())
        )
    return found


def _region(item: Any, where: str) -> Region:
    box = _field(item, "box", where)
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        raise DataError(f"{where}: 'box' must be [left, top, right, bottom] in pixels, got {box!r}.")
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise DataError(f"{where}: the box {box!r} is empty: right must exceed left, and bottom top.")
    return Region((left, top, right, bottom), _text(_field(item, "tag", where), "tag", where))


def _items(fields: dict[str, Any], name: str, where: str) -> list[Any]:
    found = fields.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise DataError(f"{where}: {name!r} must be a list, got {type(found).__name__}.")
    return found


def _field(item: Any, name: str, where: str) -> Any:
    if not isinstance(item, dict) or name not in item:
        raise DataError(f"{where}: expected an object with a field {name!r}, got {item!r}.")
    return item[name]


def _text(found: Any, what: str, where: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{where}: a {what} must be text and not empty, got {found!r}.")
    return found
