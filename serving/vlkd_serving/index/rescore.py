"""Search a structure and score its candidates again with the kept vectors, in one call of FAISS and without a copy.

FAISS reads an index from memory without copying its vectors. The kept vectors lie in a ``.npy`` file whose header
leaves room for FAISS's own, which is laid over it in this process's private pages; the file is not written to.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index.structure import Structure
from vlkd_serving.index.vectors import FloatArray, KeptVectors

__all__ = ["MOST_ALONE", "Rescored", "SearchAlone"]

MOST_ALONE = 64
"""Candidates of a query that is searched alone, at most."""
SearchAlone: TypeAlias = Callable[[FloatArray], tuple[list[float], list[int]] | None]
_FLOAT = np.dtype(np.float32)
_SIZE_BYTES = 8
"""The last field of FAISS's header: how many bytes of vectors follow."""


class Rescored:
    """A structure whose candidates get exact cosines; safe to search from several threads.

    Args:
        structure: finds the candidates; not one of binary codes.
        kept: the vectors of the same rows, with their pages.
    """

    def __init__(self, structure: Structure, kept: KeptVectors) -> None:
        self._structure = structure
        self._kept = kept  # FAISS does not hold the pages: they must live as long
        self._exact = _index_over(kept)
        self._both = faiss.IndexRefine(structure.faiss_index, self._exact)
        self._unfiltered: dict[int, Any] = {}

    def alone(self, wanted: int, depth: int, effort: int) -> SearchAlone:
        """As :meth:`search` for one query at a time, in as few steps as possible: beside a search of a few lists each
        one shows.

        Args:
            wanted: candidates.
            depth: rows that are given, at most ``wanted``.
            effort: as in :meth:`search`.

        Returns:
            A function of a query (D,) of any positive length: ``wanted`` scores in falling order, and the first
            ``depth`` rows; None where the long way has to tell what is wrong, or to order equals.
        """
        shape, search, params = (self._structure.dim,), self._both.search_c, self._remembered(effort)
        buffers, root, divide, infinite = _Buffers(self._structure.dim, wanted, depth), math.sqrt, np.divide, math.inf

        def search_alone(query: FloatArray) -> tuple[list[float], list[int]] | None:
            if query.shape != shape or query.dtype is not _FLOAT:
                return None
            length = root(query.dot(query))
            if not 0 < length < infinite:
                return None
            unit, found, rows, first, unit_at, found_at, rows_at = buffers.all
            divide(query, length, out=unit)
            search(1, unit_at, wanted, found_at, rows_at, params)
            scores = found.tolist()
            return (scores, first.tolist()) if rows[-1] >= 0 and len(set(scores)) == wanted else None

        return search_alone

    def search(
        self, queries: FloatArray, k: int, selected: NDArray[np.bool_] | None, effort: int
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """As :meth:`Structure.search`, with the exact scores of the structure's k candidates."""
        if selected is not None:
            params = self._params(self._structure.params(selected, effort))
        else:
            params = self._unfiltered.get(effort) or self._remembered(effort)
        return self._both.search(queries, k, params=params)  # type: ignore[no-any-return]

    def _remembered(self, effort: int) -> Any:
        params = self._unfiltered[effort] = self._params(self._structure.params(None, effort))
        return params

    def _params(self, inner: Any) -> Any:
        return faiss.IndexRefineSearchParameters(k_factor=1.0, base_index_params=inner)


class _Buffers(threading.local):
    """One query and its answer, for each thread, with pointers that FAISS takes.

    Args:
        dim: D.
        wanted: scores and rows that FAISS writes.
        depth: the first so many rows have a view of their own.
    """

    def __init__(self, dim: int, wanted: int, depth: int) -> None:
        arrays = np.empty(dim, np.float32), np.empty(wanted, np.float32), np.empty(wanted, np.int64)
        self.all = *arrays, arrays[-1][:depth], *(faiss.swig_ptr(array) for array in arrays)


def _index_over(kept: KeptVectors) -> Any:
    """A FAISS index of the kept vectors that uses their pages."""
    pages, size = kept.pages, kept.nbytes
    assert pages is not None
    rows, dim = kept.shape
    if kept.half:
        empty = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    else:
        empty = faiss.IndexFlatIP(dim)
    empty.ntotal = rows
    header = faiss.serialize_index(empty)[:-_SIZE_BYTES]
    whole = np.concatenate([header, np.array([size if kept.half else size // 4], "<u8").view(np.uint8)])
    start = len(pages) - size - len(whole)
    pages[start : start + len(whole)] = whole
    return faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(pages[start:]), len(pages) - start))
