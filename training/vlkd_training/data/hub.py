"""Data sets of the ``datasets`` library: an id on a hub, or a local folder of parquet or arrow files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError
from vlkd_training.data.fields import record_from_fields
from vlkd_training.data.records import Record

__all__ = ["COLUMNS", "HubRecords", "hub_pieces", "open_split", "read_hub"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "jpg", "png", "img"),
    "captions": ("captions", "caption", "text", "sentences"),
    "question": ("question",),
    "answers": ("answers", "answer", "multiple_choice_answer"),
    "type": ("answer_type", "question_type", "type"),
    "qa": ("qa",),
    "entailment": ("entailment",),
    "regions": ("regions",),
    "class": ("class", "class_name", "label"),
}
"""Our field -> the columns that may hold it, the first one present counts."""


class HubRecords(Sequence[Record]):
    """Records over a memory-mapped table: a row becomes a record when it is asked for.

    Args:
        rows: a ``datasets.Dataset``, or anything with rows by position, with pictures left encoded.
        columns: our field -> name of the column.
        name: for messages and ids.
    """

    def __init__(self, rows: Any, columns: Mapping[str, str], name: str) -> None:
        self.rows, self.columns, self.name = rows, columns, name

    @classmethod
    def open(
        cls, data: str | Path, split: str, limit: int | None = None, columns: Mapping[str, str] | None = None
    ) -> HubRecords:
        """Open a split.

        Args:
            data: id or folder.
            split: of the data set.
            limit: keep only the first rows.
            columns: overrides of :data:`COLUMNS`, our field -> name of the column.

        Raises:
            DataError: the data set or the split cannot be opened, or no column holds pictures.
        """
        rows = open_split(data, split)
        found = _columns(rows.features, columns or {}, f"{data} ({split})")
        rows = _encoded(rows, found["image"])
        return cls(rows if limit is None else rows.select(range(min(limit, len(rows)))), found, f"{data} ({split})")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]  # int -> Record, slice -> list, as a list does
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        return _record(self.rows[row], str(row), self.columns, self.name, _class_names(self.rows, self.columns))


def read_hub(data: str | Path, split: str, piece: tuple[int, int] | None = None) -> Iterator[Record]:
    """Stream a split without holding it; errors as :meth:`HubRecords.open`.

    Args:
        data: id or folder.
        split: of the data set.
        piece: ``(number, of how many)``, to read only that piece of its files; its number is part of the ids then,
            since rows are counted in each piece.
    """
    rows = open_split(data, split, streaming=True)
    if piece is not None:
        rows = rows.shard(num_shards=piece[1], index=piece[0])
    first = rows.features if rows.features is not None else dict.fromkeys(next(iter(rows)))
    columns = _columns(first, {}, f"{data} ({split})")
    rows = _encoded(rows, columns["image"])
    where = f"{data} ({split})" if piece is None else f"{data} ({split}), piece {piece[0]}"
    before = "" if piece is None else f"{piece[0]}-"
    for row, fields in enumerate(rows):
        yield _record(fields, f"{before}{row}", columns, where, _class_names(rows, columns))


def hub_pieces(data: str | Path, split: str) -> int:
    """In how many pieces the files of a split can be streamed."""
    return int(open_split(data, split, streaming=True).num_shards)


def open_split(data: str | Path, split: str, *, shown: str | Path | None = None, **options: Any) -> Any:
    """Open a split with ``datasets.load_dataset``.

    Args:
        data: id, folder, or the name of a reader of files.
        split: of the data set.
        shown: name for messages, when ``data`` is a reader.
        **options: of ``load_dataset``.

    Raises:
        DataError: the data set or the split cannot be opened.
    """
    datasets = require("datasets", "train")
    name = str(data if shown is None else shown)
    try:
        return datasets.load_dataset(str(data), split=split, **options)
    except ValueError as error:
        raise DataError(f"{name} has no split {split!r}, or is no data set: {error}") from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        offline = " HF_HUB_OFFLINE is set, so nothing is fetched." if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise DataError(f"The data set {name!r} cannot be opened: {error}.{offline}") from error


def _columns(features: Any, overrides: Mapping[str, str], name: str) -> dict[str, str]:
    unknown = set(overrides) - set(COLUMNS)
    if unknown:
        raise DataError(f"No such field: {', '.join(sorted(unknown))}. Fields: {', '.join(COLUMNS)}.")
    absent = sorted(set(overrides.values()) - set(features))
    if absent:
        raise DataError(f"{name} has no column {', '.join(absent)}; it has: {', '.join(features)}.")
    found = {
        field: next((column for column in candidates if column in features), None)
        for field, candidates in COLUMNS.items()
    } | dict(overrides)
    if found["image"] is None:
        raise DataError(f"{name} has no column of pictures; its columns are {', '.join(features)}.")
    return {field: column for field, column in found.items() if column is not None}


def _encoded(rows: Any, column: str) -> Any:
    datasets = require("datasets", "train")
    if isinstance((rows.features or {}).get(column), datasets.Image):
        return rows.cast_column(column, datasets.Image(decode=False))
    return rows


def _class_names(rows: Any, columns: Mapping[str, str]) -> list[str] | None:
    feature = (rows.features or {}).get(columns.get("class", ""))
    return getattr(feature, "names", None)


def _record(
    row: Mapping[str, Any], number: str, columns: Mapping[str, str], name: str, class_names: list[str] | None
) -> Record:
    where = f"{name}, row {number}"
    fields = {field: row[column] for field, column in columns.items() if row[column] not in (None, [])}
    picture = fields.pop("image", None)
    if isinstance(fields.get("captions"), str):
        fields["captions"] = [fields["captions"]]
    if "question" in fields and "answers" in fields:
        fields["qa"] = [
            {"question": fields["question"], "answers": _answers(fields["answers"]), "type": fields.get("type")}
        ]
    if class_names is not None and isinstance(fields.get("class"), int):
        fields["class"] = class_names[fields["class"]]
    if not isinstance(picture, Mapping) or (picture.get("bytes") is None and picture.get("path") is None):
        raise DataError(f"{where}: column {columns['image']!r} holds no picture: {type(picture).__name__}.")
    if picture.get("bytes") is not None:
        return record_from_fields(fields, where, id=number, image_bytes=picture["bytes"])
    return record_from_fields(fields, where, id=number, image_path=Path(picture["path"]))


def _answers(found: Any) -> list[str]:
    """A text, a list of texts, or VQAv2's list of ``{"answer": ...}``."""
    found = found if isinstance(found, list) else [found]
    return [item["answer"] if isinstance(item, Mapping) else item for item in found]
