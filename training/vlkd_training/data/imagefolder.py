"""Folders of pictures: ``<folder>/<split>/metadata.jsonl`` beside its pictures, one line a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlkd_hub.errors import DataError
from vlkd_training.data.fields import record_from_fields
from vlkd_training.data.jsonl import read_jsonl
from vlkd_training.data.records import Hypothesis, Record
from vlkd_training.data.snli_ve import read_pairs

__all__ = ["METADATA", "read_imagefolder"]

METADATA = "metadata.jsonl"


def read_imagefolder(data: str | Path, split: str) -> Iterator[Record]:
    """Read ``<data>/<split>/metadata.jsonl``, as ``datasets.load_dataset("imagefolder")`` reads it.

    A line holds ``file_name`` and any of ``captions``, ``qa``, ``entailment``, ``sentence`` with ``label``,
    ``regions``, ``class`` (see :func:`vlkd_training.data.fields.record_from_fields`). Where ``snli_ve/<split>.jsonl``
    lies beside the folder, its sentences are joined to the pictures that they speak of.

    Raises:
        DataError: the folder or the split is missing, a line is broken, or a picture is missing.
    """
    folder = Path(data)
    path = folder / split / METADATA
    if not path.is_file():
        raise DataError(_missing(folder, split))
    pairs = _pairs_of(folder, split)
    for where, fields in read_jsonl(path):
        name = fields.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: no 'file_name'; each line names a picture relative to {path.parent}.")
        picture = path.parent / name
        if not picture.is_file():
            raise DataError(f"{where}: the picture {picture} is missing.")
        yield record_from_fields(fields, where, id=name, image_path=picture, hypotheses=pairs.get(name, ()))


def _missing(folder: Path, split: str) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder. Expected a folder with <split>/{METADATA}."
    splits = sorted(path.parent.name for path in folder.glob(f"*/{METADATA}") if path.parent.name[0] != ".")
    if not splits:
        return f"{folder} holds no split: expected <split>/{METADATA} with the pictures beside it."
    return f"{folder} has no split {split!r}; it has: {', '.join(splits)}."


def _pairs_of(folder: Path, split: str) -> dict[str, list[Hypothesis]]:
    path = folder.resolve().parent / "snli_ve" / f"{split}.jsonl"
    if not path.is_file():
        return {}
    prefix = f"{folder.resolve().name}/{split}/"
    return {image.removeprefix(prefix): pairs for image, pairs in read_pairs(path).items() if image.startswith(prefix)}
