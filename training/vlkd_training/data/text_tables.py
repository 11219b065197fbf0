"""Tables of texts through ``datasets``: a configuration on a hub, or a local folder of files with the same columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.data.hub import open_split

__all__ = ["check_texts", "open_texts", "pick_columns"]

_READERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}


def open_texts(source: str | Path, split: str, *, config: str | None = None, limit: int | None = None) -> Any:
    """Open one split of a set of texts.

    A folder holds ``<split>.json``, ``.jsonl``, ``.csv`` or ``.parquet``, or parts ``<split>-00000-of-00002`` with
    these endings, directly or in a folder named after the configuration, as a clone of the set on a hub does.

    Args:
        source: the folder, or an id on a hub.
        split: of the set.
        config: configuration of the set, for example a task of GLUE.
        limit: keep only the first rows.

    Returns:
        A ``datasets.Dataset`` with the columns of the files.

    Raises:
        DataError: nothing is there, the split is missing or empty, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, got {limit}.")
    folder = Path(source)
    if folder.is_dir():
        kind, files = _files(folder, split, config)
        rows = open_split(kind, split, data_files={split: files}, shown=folder)
    elif isinstance(source, Path) or folder.is_absolute() or str(source).startswith(".") or folder.suffix:
        raise DataError(f"{source} is not there. Expected a folder of parquet, json or csv files, or an id on a hub.")
    else:
        rows = open_split(source, split, **({} if config is None else {"name": config}))
    if not len(rows):
        raise DataError(f"{source} ({split}) has no rows.")
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def pick_columns(rows: Any, columns: Mapping[str, str], where: str) -> Any:
    """Keep the columns that are wanted, under our names.

    Args:
        rows: of :func:`open_texts`.
        columns: our name -> name of the column.
        where: for messages.

    Raises:
        DataError: a column is missing.
    """
    missing = [column for column in columns.values() if column not in rows.column_names]
    if missing:
        found = ", ".join(rows.column_names)
        raise DataError(f"{where} has no column {', '.join(missing)}; its columns are {found}.")
    kept = rows.select_columns(list(columns.values()))
    return kept.rename_columns({column: name for name, column in columns.items() if column != name})


def check_texts(rows: Any, columns: Sequence[str], where: str) -> None:
    """Refuse cells that are no text; one without words may stand (some questions of QQP are).

    Args:
        rows: a ``datasets.Dataset``.
        columns: those that must be text.
        where: for messages.

    Raises:
        DataError: naming the first such row.
    """
    for column in columns:
        for row, cell in enumerate(rows[column]):
            if not isinstance(cell, str):
                raise DataError(f"{where}, row {row}: {column!r} must be text, got {cell!r}.")


def _files(folder: Path, split: str, config: str | None) -> tuple[str, list[str]]:
    """The files of a split, all read by one reader. Named one by one, since ``datasets`` takes every name with
    "validation" in it for the same split."""
    if config is not None and (folder / config).is_dir():
        folder = folder / config
    tables = sorted(path for path in folder.iterdir() if path.suffix in _READERS)
    files = [path for path in tables if path.stem == split or path.stem.startswith(f"{split}-")]
    if not files:
        splits = ", ".join(dict.fromkeys(path.stem.split("-")[0] for path in tables)) or "none"
        raise DataError(f"{folder} has no file of the split {split!r} (json, jsonl, csv, parquet); splits: {splits}.")
    kinds = {_READERS[path.suffix] for path in files}
    if len(kinds) > 1:
        raise DataError(
            f"{folder} holds the split {split!r} twice: {', '.join(path.name for path in files)}. Keep one."
        )
    return kinds.pop(), [str(path) for path in files]
