"""Vectors of an index: fp32 in, finite, L2-normalised; kept beside the search structure for scoring again."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.fsio import DurableFile

__all__ = ["BLOCK_ROWS", "FloatArray", "KeptVectors", "blocks_of", "normalise", "normalised_blocks", "write_kept"]

FloatArray = NDArray[np.float32]
BLOCK_ROWS = 16_384
_TYPES = ("<f2", "<f4")
_NO_RESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
"""Else Linux refuses to map a file that is larger than the memory, to be written to; Python names it from 3.13 on."""


def normalise(vectors: NDArray[np.generic], first_row: int = 0) -> FloatArray:
    """L2-normalise rows.

    Args:
        vectors: (N, D).
        first_row: number of the first one, for the message.

    Raises:
        InvalidInputError: not two-dimensional, a NaN or infinite value, a row of zeros: such a row matches nothing.
    """
    numbers = np.ascontiguousarray(vectors, dtype=np.float32)
    if numbers.ndim != 2 or numbers.shape[1] == 0:
        raise InvalidInputError(f"Vectors must have the shape (items, dim), got {numbers.shape}.")
    if len(numbers) == 1:  # one query waits for one answer: no detour
        row = numbers[0]
        length = math.sqrt(row.dot(row))
        if 0 < length < math.inf:
            return numbers / np.float32(length)
    norms = np.sqrt(np.einsum("nd,nd->n", numbers, numbers))  # (N,)
    if 0 < norms.min(initial=1.0) and norms.max(initial=1.0) < np.inf:  # neither is true of NaN
        return np.asarray(numbers / norms[:, None])
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        row = first_row + bad[0]
        raise InvalidInputError(f"Row {row} cannot be indexed: it is all zeros or holds NaN or infinity.")
    return np.asarray(numbers / norms[:, None])


def blocks_of(vectors: NDArray[np.generic], rows: int = BLOCK_ROWS) -> Iterator[FloatArray]:
    """An (N, D) array, block by block, as fp32."""
    for start in range(0, len(vectors), rows):
        yield np.asarray(vectors[start : start + rows], dtype=np.float32)


def normalised_blocks(vectors: NDArray[np.generic], rows: int = BLOCK_ROWS) -> Iterator[FloatArray]:
    """An (N, D) array, in memory or mapped, as L2-normalised blocks; raises as :func:`normalise`."""
    for start in range(0, len(vectors), rows):
        yield normalise(vectors[start : start + rows], start)


def write_kept(path: Path, blocks: Iterable[FloatArray], shape: tuple[int, int], codec: str) -> None:
    """Write normalised vectors as a ``.npy`` file of fp16 or fp32 and force it to the disk.

    Args:
        path: a new file.
        blocks: (<= N, D) each, N rows in all.
        shape: (N, D).
        codec: of the searched structure; only ``fp32`` keeps fp32, since fp16 moves a cosine by less than 5e-4.
    """
    kind = np.dtype(_TYPES[1] if codec == "fp32" else _TYPES[0])
    with DurableFile(path) as handle:
        header = {"descr": kind.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        for block in blocks:
            handle.write(block.astype(kind).tobytes())
        handle.sync()


class KeptVectors:
    """The vectors of a generation by row, mapped from disk or read into memory.

    Args:
        array: (N, D) fp16 or fp32.
        pages: the whole file, read, or mapped so that writing changes this process's pages only; the vectors are its
            end. None where they lie in no file, or the system grants no such mapping.
    """

    def __init__(self, array: NDArray[np.generic], pages: NDArray[np.uint8] | None = None) -> None:
        self._array = array
        self.pages = pages

    @classmethod
    def read(cls, path: Path, shape: tuple[int, int], *, in_memory: bool = False) -> KeptVectors:
        """Map a file whose SHA-256 has been verified, or read it.

        Raises:
            IndexCorruptError: not such a file, or of another shape or type.
        """
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError):
            raise IndexCorruptError(f"{path} is not an array of vectors.") from None
        if array.shape != shape or array.dtype.str not in _TYPES:
            raise IndexCorruptError(f"{path} holds {array.dtype} values of shape {array.shape}, expected {shape}.")
        pages = _pages_in_memory(path) if in_memory else _private_pages(path)
        if pages is None:
            return cls(np.asarray(array))  # a plain view of the mapping: its rows are read faster
        return cls(pages[-array.nbytes :].view(array.dtype).reshape(shape) if array.nbytes else array, pages)

    def __len__(self) -> int:
        return len(self._array)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return self._array.shape[0], self._array.shape[1]

    @property
    def half(self) -> bool:
        """Whether they are fp16."""
        return self._array.dtype.itemsize == 2

    @property
    def nbytes(self) -> int:
        """Of the vectors."""
        return self._array.nbytes

    def rows(self, rows: NDArray[np.int64]) -> FloatArray:
        """A copy of some rows: (*rows.shape, D) fp32."""
        return np.asarray(self._array[rows], dtype=np.float32)

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[FloatArray]:
        """Every row in order, block by block."""
        return blocks_of(self._array, size)

    def scores(self, queries: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
        """Cosine of each query with its own rows.

        Args:
            queries: (Q, D), L2-normalised.
            rows: (Q, K); negative ones get minus infinity.

        Returns:
            (Q, K).
        """
        if len(rows) == 1 and rows.min() >= 0:  # one query waits for one answer: no detour
            return np.asarray(self.rows(rows[0]) @ queries[0])[None]
        found = np.empty(rows.shape, dtype=np.float32)
        for start in range(0, len(rows), 256):  # bounds the copy that the gather makes
            part = slice(start, start + 256)
            np.einsum("qkd,qd->qk", self.rows(np.maximum(rows[part], 0)), queries[part], out=found[part])
        found[rows < 0] = -np.inf
        return found


def _pages_in_memory(path: Path) -> NDArray[np.uint8]:
    """Memory of numpy's own, for which it asks the system for large pages: fewer addresses to look up in a search."""
    pages = np.empty(path.stat().st_size, dtype=np.uint8)
    with path.open("rb") as handle:
        if handle.readinto(pages.data) != len(pages):
            raise IndexCorruptError(f"{path} changed its length while it was read.")
    return pages


def _private_pages(path: Path) -> NDArray[np.uint8] | None:
    with path.open("rb") as handle:
        try:
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            mapping = mmap.mmap(handle.fileno(), 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=protection)
        except OSError:  # a system set to promise no more memory than it has
            return None
    return np.frombuffer(mapping, dtype=np.uint8)
