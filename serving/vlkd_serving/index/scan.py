"""Find pictures in a folder, with what ``metadata.jsonl`` says about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_serving.index.items import Item

__all__ = ["PICTURE_SUFFIXES", "scan_folder"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
METADATA_NAME = "metadata.jsonl"
_KEPT_LISTS = ("captions",)


def scan_folder(root: Path) -> list[Item]:
    """Every picture under ``root``, sorted; its id is its path relative to ``root``.

    A ``metadata.jsonl`` (one JSON object a line, ``file_name`` relative to its folder) adds the captions and the
    plain fields, such as ``class``; longer structures (questions, boxes) are left out.

    Raises:
        DataError: no folder, no picture, or a metadata line that cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.")
    metadata: dict[str, dict[str, Any]] = {}
    for path in sorted(root.rglob(METADATA_NAME)):
        metadata.update(_read_metadata(path, root))
    paths = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise DataError(f"{root} holds no picture ({', '.join(PICTURE_SUFFIXES)}).")
    return [Item(id=path, path=path, metadata=metadata.get(path, {})) for path in paths]


def _read_metadata(path: Path, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    folder = path.parent.relative_to(root)
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                name = (folder / record.pop("file_name")).as_posix()
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(f"{path}, line {number}: expected a JSON object with 'file_name'.") from None
            yield name, {k: v for k, v in record.items() if k in _KEPT_LISTS or isinstance(v, str | int | float | bool)}
