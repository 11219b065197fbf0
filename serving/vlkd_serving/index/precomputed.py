"""Items with vectors that were made elsewhere: a ``.npy`` array and a file of ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_serving.index.items import Item

__all__ = ["load_precomputed"]


def load_precomputed(vectors: Path, ids: Path | None) -> tuple[list[Item], NDArray[np.generic]]:
    """Items and a mapped (N, D) array.

    Args:
        vectors: ``.npy`` of floating point numbers.
        ids: one id a line; or, named ``.jsonl``, one object a line with ``id``, perhaps ``path``, and metadata. None
            numbers the rows.

    Raises:
        DataError: not such files, or another number of ids than vectors.
    """
    try:
        array = np.load(vectors, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError):
        raise DataError(f"{vectors} is not a .npy array (of plain numbers, without pickled objects).") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not len(array):
        raise DataError(f"{vectors} holds {array.dtype} values of shape {array.shape}, expected floats (items, dim).")
    if ids is None:
        return [Item(id=str(row)) for row in range(len(array))], array
    items = _read_ids(ids)
    if len(items) != len(array):
        raise DataError(f"{ids} names {len(items)} items and {vectors} holds {len(array)} vectors.")
    return items, array


def _read_ids(ids: Path) -> list[Item]:
    items = []
    with ids.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                record: dict[str, Any] = json.loads(line) if ids.suffix == ".jsonl" else {"id": line.rstrip("\r\n")}
                item_id, path = record.pop("id"), record.pop("path", None)
                items.append(Item(id=str(item_id), path=path, metadata=record))
            except (ValueError, KeyError, TypeError, AttributeError, InvalidInputError):
                raise DataError(f"{ids}, line {number}: expected an id, or in .jsonl an object with 'id'.") from None
    return items
