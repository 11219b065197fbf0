"""SNLI-VE: sentences that a picture entails, contradicts, or leaves open; the pictures lie in another set's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlkd_hub.errors import DataError
from vlkd_training.data.jsonl import read_jsonl
from vlkd_training.data.records import Hypothesis, Record

__all__ = ["LABELS", "read_pairs", "read_snli_ve"]

LABELS = ("entailment", "neutral", "contradiction")


def read_pairs(path: Path) -> dict[str, list[Hypothesis]]:
    """Group the lines ``{"image", "hypothesis", "label"}`` of a file by picture.

    Raises:
        DataError: a line lacks a field or has an unknown label.
    """
    pairs: dict[str, list[Hypothesis]] = {}
    for where, fields in read_jsonl(path):
        missing = [name for name in ("image", "hypothesis", "label") if not fields.get(name)]
        if missing:
            raise DataError(f"{where}: no {' and no '.join(repr(name) for name in missing)}.")
        if fields["label"] not in LABELS:
            raise DataError(f"{where}: the label must be one of {', '.join(LABELS)}, got {fields['label']!r}.")
        pairs.setdefault(fields["image"], []).append(Hypothesis(fields["hypothesis"], fields["label"]))
    return pairs


def read_snli_ve(data: str | Path, split: str) -> Iterator[Record]:
    """Read ``<data>/<split>.jsonl``: one record a picture, with every sentence on it.

    Args:
        data: the folder; ``image`` in its files is relative to the folder's parent.
        split: name of the file.

    Raises:
        DataError: the split is missing, a line is broken, or a picture is missing.
    """
    folder = Path(data).resolve()
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        splits = ", ".join(sorted(found.stem for found in folder.glob("*.jsonl"))) or "none"
        raise DataError(f"{folder} has no split {split!r}; it has: {splits}.")
    for image, hypotheses in read_pairs(path).items():
        picture = folder.parent / image
        if not picture.is_file():
            raise DataError(f"{path}: the picture {picture} is missing; the pictures' set must lie beside {folder}.")
        yield Record(id=image, hypotheses=tuple(hypotheses), image_path=picture)
