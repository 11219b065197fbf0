"""Items from a table: CSV or Parquet, with a column ``path`` (pictures) or ``text``."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_serving.index.items import Item

__all__ = ["scan_csv", "scan_parquet", "scan_table", "scan_texts"]

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?")


def scan_table(table: Path, root: Path) -> list[Item]:
    """The pictures that a CSV or Parquet file lists, by the file's suffix."""
    return scan_parquet(table, root) if table.suffix == ".parquet" else scan_csv(table, root)


def scan_csv(table: Path, root: Path) -> list[Item]:
    """The pictures that a CSV file lists, in its order.

    The column ``path`` is relative to ``root``; ``id`` is optional (default: the path); every other column is metadata,
    as a number where it is written as one (``12``, ``0.5``, but not ``007``).

    Raises:
        DataError: no ``path`` column, no row, a path that leaves ``root``, or an id given twice.
    """
    return _items(_csv_rows(table, "path"), table, root)


def scan_parquet(table: Path, root: Path) -> list[Item]:
    """The pictures that a Parquet file lists; columns as in :func:`scan_csv`, with their own types.

    Raises:
        DataError: as :func:`scan_csv`, or not a Parquet file.
        MissingDependencyError: pyarrow is not installed.
    """
    return _items(_parquet_rows(table), table, root)


def scan_texts(source: Path) -> list[Item]:
    """Texts to index: a CSV file with a column ``text`` (and ``id``), or any other file with one text a line.

    Raises:
        DataError: no text, or an id given twice.
    """
    if source.suffix == ".csv":
        rows: Iterator[tuple[int, dict[str, Any]]] = _csv_rows(source, "text")
    else:
        lines = source.read_text(encoding="utf-8").splitlines()
        rows = ((number, {"text": line.strip()}) for number, line in enumerate(lines, start=1) if line.strip())
    items: dict[str, Item] = {}
    for number, row in rows:
        item_id = str(row.pop("id", None) or number)
        if item_id in items:
            raise DataError(f"{source}, line {number}: the id {item_id!r} is given twice.")
        items[item_id] = Item(id=item_id, metadata=row)
    if not items:
        raise DataError(f"{source} holds no text.")
    return list(items.values())


def _csv_rows(table: Path, needed: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(newline="", encoding="utf-8-sig") as handle:
        for number, row in enumerate(csv.DictReader(handle), start=2):
            if not row.get(needed) or None in row:
                raise DataError(
                    f"{table}, line {number}: expected a header with the column '{needed}' and one value a column."
                )
            names = ("path", "id", "text")
            yield number, {k: v if k in names else _typed(v) for k, v in row.items() if v}


def _parquet_rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    parquet, arrow = require("pyarrow.parquet", "parquet"), require("pyarrow", "parquet")
    try:
        with parquet.ParquetFile(table) as file:
            if "path" not in file.schema_arrow.names:
                raise DataError(f"{table} has no column 'path'; it has {', '.join(file.schema_arrow.names)}.")
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, {k: v for k, v in row.items() if v is not None}
    except arrow.ArrowInvalid:
        raise DataError(f"{table} is not a Parquet file.") from None


def _items(rows: Iterator[tuple[int, dict[str, Any]]], table: Path, root: Path) -> list[Item]:
    items: dict[str, Item] = {}
    for number, row in rows:
        path = str(row.pop("path", ""))
        if not path:
            raise DataError(f"{table}, line {number}: the column 'path' is empty.")
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DataError(f"{table}, line {number}: the path {path!r} must lie inside {root}.")
        try:
            item = Item(id=str(row.pop("id", path)), path=path, metadata=row)
        except InvalidInputError as error:
            raise DataError(f"{table}, line {number}: {error}") from None
        if item.id in items:
            raise DataError(f"{table}, line {number}: the id {item.id!r} is given twice.")
        items[item.id] = item
    if not items:
        raise DataError(f"{table} lists no picture.")
    return list(items.values())


def _typed(text: str) -> str | int | float:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    return float(text) if match[2] else int(text)
