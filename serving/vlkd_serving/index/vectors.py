"""Vectors of an index: fp32, finite, L2-normalised, in a FAISS flat structure (exact inner product)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.errors import IndexCorruptError

__all__ = ["FlatVectors", "normalise"]

FloatArray = NDArray[np.float32]


def normalise(vectors: FloatArray) -> FloatArray:
    """L2-normalise rows.

    Args:
        vectors: (N, D).

    Raises:
        InvalidInputError: not two-dimensional, a NaN or infinite value, a row of zeros: such a row matches nothing.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2:
        raise InvalidInputError(f"Vectors must have the shape (items, dim), got {vectors.shape}.")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # (N, 1)
    bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if bad.size:
        raise InvalidInputError(f"Row {bad[0]} cannot be indexed: it is all zeros or holds NaN or infinity.")
    return np.asarray(vectors / norms, dtype=np.float32)


class FlatVectors:
    """Exact search over L2-normalised vectors."""

    kind = "flat"

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def from_array(cls, vectors: FloatArray) -> FlatVectors:
        """From an (N, D) array of normalised rows; N may be 0."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> FlatVectors:
        """Read a file whose SHA-256 has been verified.

        Raises:
            IndexCorruptError: FAISS cannot read it, or it holds another structure.
        """
        try:
            index = faiss.read_index(str(path))
        except RuntimeError:
            raise IndexCorruptError(f"{path} is not a FAISS index.") from None
        if not isinstance(index, faiss.IndexFlatIP):
            raise IndexCorruptError(
                f"{path} holds {type(index).__name__}; this version reads flat inner-product indexes."
            )
        return cls(index)

    def write(self, path: Path) -> None:
        """Write to a new file (not yet forced to the disk)."""
        faiss.write_index(self._index, str(path))

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """The k best rows for each query.

        Args:
            queries: (Q, D), L2-normalised.
            k: how many; fewer come back where the index is smaller.

        Returns:
            Scores (Q, k) in falling order, and rows (Q, k).
        """
        scores, rows = self._index.search(queries, min(k, len(self)))
        return scores, rows

    def to_array(self) -> FloatArray:
        """A copy of every vector: (N, D)."""
        if not len(self):
            return np.empty((0, self.dim), dtype=np.float32)
        return np.asarray(self._index.reconstruct_n(0, len(self)), dtype=np.float32)
