"""An array on disk in several files, in fp16, fp32 or int8, read and written by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RowArray", "open_rows", "rows_per_shard"]

_STEPS = 127
"""int8 values on each side of zero."""


class RowArray:
    """Rows spread over files; an int8 row is its largest absolute value (fp16) times steps of 1/127.

    Indexing is numpy's, by row: a number, a slice, or numbers; with two leading axes (views, pictures) also by pair,
    and one number is a whole view. What is read is fp16 for int8, else the dtype of the files.

    Args:
        shards: each of shape ``(rows, ...)``; all but the last with as many rows.
        shape: of the whole array.
        lead: how many leading axes count rows, 1 or 2.
        scales: for int8, the largest absolute values, one array of shape ``(rows, ...)`` without the last axis a shard.
        start: first row, for a view.
    """

    def __init__(
        self,
        shards: Sequence[np.ndarray],
        shape: tuple[int, ...],
        lead: int = 1,
        scales: Sequence[np.ndarray] | None = None,
        start: int = 0,
    ) -> None:
        self.shards, self.scales, self.shape, self.lead, self.start = shards, scales, shape, lead, start
        self.dtype = np.dtype("float16") if scales is not None else shards[0].dtype
        self._per_shard = max(1, len(shards[0]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if self.lead == 2 and not isinstance(index, tuple):
            view = range(self.shape[0])[index]
            return RowArray(self.shards, self.shape[1:], 1, self.scales, self.start + view * self.shape[1])
        rows = self._rows(index)
        if rows.ndim == 0:
            return self._read(rows.reshape(1))[0]
        return self._read(rows)

    def __setitem__(self, index: Any, values: np.ndarray) -> None:
        rows = np.atleast_1d(self._rows(index))
        values = np.broadcast_to(np.asarray(values), (len(rows), *self.shape[self.lead :]))
        for shard, here, wanted in self._by_shard(rows):
            part = values[wanted]
            if self.scales is not None:
                largest = np.abs(part).max(axis=-1).astype(np.float16)
                safe = np.where(largest > 0, largest, 1).astype(np.float32)[..., None]
                part = np.clip(np.rint(part / safe * _STEPS), -_STEPS, _STEPS)
                self.scales[shard][here] = largest
            self.shards[shard][here] = part

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        whole = self._read(np.arange(int(np.prod(self.shape[: self.lead]))) + self.start).reshape(self.shape)
        return whole if dtype is None else whole.astype(dtype)

    def _rows(self, index: Any) -> np.ndarray:
        """Row numbers over all files."""
        if self.lead == 2:
            view, index = index
            return self.start + range(self.shape[0])[view] * self.shape[1] + np.arange(self.shape[1])[index]
        return self.start + np.arange(self.shape[0])[index]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), *self.shape[self.lead :]), self.dtype)
        for shard, here, wanted in self._by_shard(rows):
            part = self.shards[shard][here]
            if self.scales is not None:
                part = part.astype(np.float32) * (self.scales[shard][here].astype(np.float32)[..., None] / _STEPS)
            found[wanted] = part
        return found

    def _by_shard(self, rows: np.ndarray) -> list[tuple[int, Any, Any]]:
        """``(shard, rows inside it, where they go)``; neighbouring rows as slices, which memory maps read faster."""
        numbers = rows // self._per_shard
        if len(rows) and numbers[0] == numbers[-1] and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            at = int(rows[0] - numbers[0] * self._per_shard)
            return [(int(numbers[0]), slice(at, at + len(rows)), slice(None))]
        return [
            (int(number), rows[numbers == number] - number * self._per_shard, numbers == number)
            for number in np.unique(numbers)
        ]


def rows_per_shard(shape: tuple[int, ...], lead: int, itemsize: int, shard_bytes: int) -> int:
    """How many rows of an array one file of at most ``shard_bytes`` holds; at least 1."""
    return max(1, shard_bytes // max(1, int(np.prod(shape[lead:])) * itemsize))


def open_rows(
    folder: Path, name: str, shape: tuple[int, ...], dtype: str, *, lead: int, shard_bytes: int, mode: Any
) -> tuple[Any, dict[str, np.ndarray]]:
    """Open or create (``mode="w+"``) an array; return it and the memory maps of its files by file name.

    An array that fits one file and needs no scales is a plain ``numpy.memmap`` in ``<name>.npy``.
    """
    rows = int(np.prod(shape[:lead]))
    per_file = rows_per_shard(shape, lead, np.dtype(dtype).itemsize, shard_bytes)

    def one(file: str, kind: str, whole: tuple[int, ...]) -> np.ndarray:
        if mode == "w+":
            return np.lib.format.open_memmap(folder / f"{file}.npy", mode="w+", dtype=kind, shape=whole)
        return np.load(folder / f"{file}.npy", mmap_mode=mode)

    if rows <= per_file and dtype != "int8":
        found = one(name, dtype, shape)
        return found, {name: found}
    files: dict[str, np.ndarray] = {}
    shards, scales = [], []
    for number, start in enumerate(range(0, max(rows, 1), per_file)):
        inside = (min(per_file, rows - start), *shape[lead:])
        shards.append(files.setdefault(f"{name}-{number:05d}", one(f"{name}-{number:05d}", dtype, inside)))
        if dtype == "int8":
            file = f"{name}-{number:05d}.scale"
            scales.append(files.setdefault(file, one(file, "float16", inside[:-1])))
    return RowArray(shards, shape, lead, scales or None), files
