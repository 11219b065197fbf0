"""``ids.bin``: the user's ids in row order, mapped into memory, so that a hit gets its id without a query.

Layout: 8 bytes magic, the number of ids N as uint64, N + 1 offsets as uint64 (little-endian), then UTF-8 text.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.fsio import DurableFile

__all__ = ["IdTable", "write_ids"]

_MAGIC = b"VLKDIDS1"
_HEAD = len(_MAGIC) + 8
_SOME, _FEW = 6, 64
_WIDEST = 32
_BLOCK = 1 << 20


class IdTable:
    """Ids by row.

    Args:
        offsets: (N + 1,) byte positions in ``text``.
        text: every id, UTF-8, one after the other.
        in_memory: keep a second copy in rows of equal length, where no id is long: one place to look at for each.
    """

    def __init__(self, offsets: NDArray[np.uint64], text: bytes | memoryview, *, in_memory: bool = False) -> None:
        self._offsets = offsets
        self._ends = memoryview(offsets.data)  # its numbers are Python's own, which is faster for a few
        self._text = text
        self._bytes = np.frombuffer(text, dtype=np.uint8)
        self._packed = _packed(offsets, self._bytes) if in_memory else None

    @classmethod
    def read(cls, path: Path, *, in_memory: bool = False) -> IdTable:
        """Map a file whose SHA-256 has been verified.

        Raises:
            IndexCorruptError: not such a file, or its offsets point outside it.
        """
        with path.open("rb") as handle:
            content = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        count = int.from_bytes(content[len(_MAGIC) : _HEAD], "little")
        start = _HEAD + 8 * (count + 1)
        if bytes(content[: len(_MAGIC)]) != _MAGIC or start > len(content):
            raise IndexCorruptError(f"{path} is not a table of ids.")
        offsets = np.frombuffer(content[_HEAD:start], dtype="<u8")
        text = content[start:]
        if offsets[0] != 0 or int(offsets[-1]) != len(text) or (np.diff(offsets.astype(np.int64)) < 0).any():
            raise IndexCorruptError(f"{path} holds offsets that lead outside it.")
        return cls(offsets, text, in_memory=in_memory)

    @classmethod
    def of(cls, ids: Iterable[str]) -> IdTable:
        """From ids in memory."""
        encoded = [item_id.encode() for item_id in ids]
        lengths = np.fromiter((len(item_id) for item_id in encoded), dtype=np.uint64, count=len(encoded))
        return cls(np.concatenate([np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)]), b"".join(encoded))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> str:
        return bytes(self._text[int(self._offsets[row]) : int(self._offsets[row + 1])]).decode()

    def many(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """The ids of several rows."""
        if self._packed is not None:
            return [each.decode() for each in self._packed[rows].tolist()]
        ends, text = self._ends, self._text
        if len(rows) < _SOME:
            return [str(text[ends[row] : ends[row + 1]], "utf-8") for row in rows]
        # They lie far apart in a large file. Numpy waits for several of them at a time, where a loop waits for each.
        at = np.asarray(rows)
        if len(rows) <= _FEW:
            begins = self._offsets[at]
            self._bytes.take(begins, mode="clip")  # only fetched: then the loop below finds the text in the cache
            stretches = zip(begins.tolist(), self._offsets[at + 1].tolist(), strict=True)
            return [str(text[start:stop], "utf-8") for start, stop in stretches]
        # And one text is decoded instead of thousands.
        starts = self._offsets[at].astype(np.int64)
        lengths = self._offsets[at + 1].astype(np.int64) - starts
        stops = np.cumsum(lengths)
        places = np.arange(stops[-1]) + np.repeat(starts - (stops - lengths), lengths)
        together = self._bytes[places].tobytes()
        cuts = list(pairwise([0, *stops.tolist()]))
        if together.isascii():
            whole = together.decode("ascii")
            return [whole[start:stop] for start, stop in cuts]
        return [together[start:stop].decode() for start, stop in cuts]

    def write(self, path: Path) -> None:
        """Write to a new file and force it to the disk."""
        with DurableFile(path) as handle:
            handle.write(_MAGIC + len(self).to_bytes(8, "little"))
            handle.write(self._offsets.astype("<u8").tobytes())
            handle.write(bytes(self._text))
            handle.sync()


def _packed(offsets: NDArray[np.uint64], text: NDArray[np.uint8]) -> NDArray[np.bytes_] | None:
    """(N,) ids, padded with NUL; None where one is longer than :data:`_WIDEST`, or ends with what would be padding."""
    ends = offsets.astype(np.int64)
    lengths = np.diff(ends)
    width = int(lengths.max(initial=0))
    if not 0 < width <= _WIDEST or not text[ends[1:][lengths > 0] - 1].all():
        return None
    table = np.zeros((len(lengths), width), dtype=np.uint8)
    for start in range(0, len(lengths), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = text[ends[start] : ends[min(start + _BLOCK, len(lengths))]]
        table[block][np.arange(width) < lengths[block, None]] = part
    return table.view(f"S{width}").ravel()


def write_ids(path: Path, ids: Iterable[str]) -> None:
    """Write ids to a new file and force it to the disk."""
    IdTable.of(ids).write(path)
