"""A FAISS structure over the rows of a generation: build it, write it, map it, search it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.fsio import DurableFile
from vlkd_serving.index.progress import Progress, no_progress
from vlkd_serving.index.spec import Spec
from vlkd_serving.index.vectors import FloatArray

__all__ = ["Structure"]

_MAP_BYTES = 32 << 20
"""Larger files are mapped instead of read."""
_HNSW_BUILD_EFFORT = 80
_ROTATION_ROUNDS = 10
_ROTATION_ROWS = 20_000
_KNOWN: dict[str, tuple[str, ...]] = {
    "flat": ("IndexFlat", "IndexFlatIP", "IndexScalarQuantizer", "IndexBinaryFlat"),
    "hnsw": ("IndexHNSWFlat", "IndexHNSWSQ"),
    "ivf": ("IndexIVFFlat", "IndexIVFScalarQuantizer"),
    "ivfpq": ("IndexPreTransform", "IndexIVFPQ"),
}


class Structure:
    """Rows 0 to N-1 under inner product (or Hamming distance for binary codes).

    Args:
        index: the FAISS object.
        spec: what it is.
    """

    def __init__(self, index: Any, spec: Spec) -> None:
        self._index = index
        self.spec = spec
        self._unfiltered: dict[int, Any] = {}

    @classmethod
    def build(
        cls,
        spec: Spec,
        dim: int,
        sample: FloatArray,
        blocks: Iterable[FloatArray],
        progress: Progress = no_progress,
    ) -> Structure:
        """Train on a sample, then add every row.

        Args:
            spec: what to build.
            dim: D.
            sample: (S, D) rows to train on; not used by structures that learn nothing.
            blocks: (<= N, D) each, L2-normalised.
            progress: called with ``adding`` and the number of rows added since the last call.
        """
        built = cls(_new_index(spec, dim), spec)
        if not built._index.is_trained:
            built._index.train(sample)
        for block in blocks:
            built._index.add(_codes(block) if spec.codec == "binary" else block)
            progress("adding", len(block))
        return built

    def grown(self, blocks: Iterable[FloatArray], progress: Progress = no_progress) -> Structure:
        """An empty structure with what this one learnt (centroids, codes), filled with other rows."""
        index = faiss.clone_index(self._index)
        index.reset()
        for block in blocks:
            index.add(block)
            progress("adding", len(block))
        return Structure(index, self.spec)

    @classmethod
    def read(cls, path: Path, spec: Spec) -> Structure:
        """Open a file whose SHA-256 has been verified; a large one is mapped.

        Raises:
            IndexCorruptError: FAISS cannot read it, or it is not what ``spec`` says.
        """
        flags = faiss.IO_FLAG_MMAP_IFC if path.stat().st_size > _MAP_BYTES else 0
        try:
            reading = faiss.read_index_binary if spec.codec == "binary" else faiss.read_index
            index = reading(str(path), flags)
        except RuntimeError:
            raise IndexCorruptError(f"{path} is not a FAISS index.") from None
        if type(index).__name__ not in _KNOWN.get(spec.kind, ()):
            raise IndexCorruptError(f"{path} holds {type(index).__name__}, expected a structure of kind {spec.kind}.")
        return cls(index, spec)

    def write(self, path: Path) -> None:
        """Write to a new file and force it to the disk."""
        writing = faiss.write_index_binary if self.spec.codec == "binary" else faiss.write_index
        with DurableFile(path) as handle:
            writing(self._index, faiss.PyCallbackIOWriter(handle.write))
            handle.sync()

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def faiss_index(self) -> Any:
        """The FAISS object, to hold a measurement against it."""
        return self._index

    def search(
        self, queries: FloatArray, k: int, selected: NDArray[np.bool_] | None = None, effort: int | None = None
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """The k best rows for each query by the structure's own scores.

        Args:
            queries: (Q, D), L2-normalised.
            k: 1 to N.
            selected: (N,) rows that may be found; None means all.
            effort: instead of the one of the spec.

        Returns:
            Scores (Q, k) in falling order, and rows (Q, k); -1 where fewer were found.
        """
        effort = self.spec.effort if effort is None else effort
        if selected is None:
            params = self._unfiltered.get(effort) or self._unfiltered.setdefault(effort, self.params(None, effort))
        else:
            params = self.params(selected, effort)
        if self.spec.codec == "binary":
            distances, rows = self._index.search(_codes(queries), k, params=params)
            return (1 - 2 * distances / self.dim).astype(np.float32), rows
        return self._index.search(queries, k, params=params)  # type: ignore[no-any-return]

    def vectors(self) -> FloatArray:
        """Every vector of an exact structure, (N, D): a view, not a copy."""
        if not len(self):
            return np.empty((0, self.dim), dtype=np.float32)
        flat = faiss.downcast_index(self._index)
        view = faiss.rev_swig_ptr(flat.get_xb(), len(self) * self.dim)
        return np.asarray(view, dtype=np.float32).reshape(len(self), self.dim)

    def params(self, selected: NDArray[np.bool_] | None, effort: int) -> Any:
        """What a search is told, as FAISS wants it; None where there is nothing to tell."""
        bits = None if selected is None else np.packbits(selected, bitorder="little")
        chosen = {} if bits is None else {"sel": faiss.IDSelectorBitmap(bits)}
        if self.spec.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=effort, **chosen)
        if self.spec.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=effort, **chosen)
        if self.spec.kind == "ivfpq":
            inner = faiss.SearchParametersIVF(nprobe=effort, **chosen)
            return faiss.SearchParametersPreTransform(index_params=inner)
        return faiss.SearchParameters(**chosen) if chosen else None


def _new_index(spec: Spec, dim: int) -> Any:
    if spec.codec == "binary":
        return faiss.IndexBinaryFlat(dim)
    index = faiss.index_factory(dim, spec.factory, faiss.METRIC_INNER_PRODUCT)
    if spec.kind == "hnsw":
        index.hnsw.efConstruction = _HNSW_BUILD_EFFORT
    if spec.kind in ("ivf", "ivfpq"):
        inner = faiss.downcast_index(faiss.extract_index_ivf(index))
        inner.cp.min_points_per_centroid = 1  # the planner chose the number of lists by the number of rows
        inner.cp.seed = 1234
        if spec.kind == "ivfpq":
            inner.pq.cp.min_points_per_centroid = 1
            rotation = faiss.downcast_VectorTransform(index.chain.at(0))
            rotation.niter, rotation.max_train_points = _ROTATION_ROUNDS, _ROTATION_ROWS
    return index


def _codes(vectors: FloatArray) -> NDArray[np.uint8]:
    """The signs of the values: (N, D / 8) bytes."""
    return np.packbits(vectors > 0, axis=1)
