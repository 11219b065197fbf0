"""The vectors of the bench: clustered, as embeddings of pictures are, and the same for one seed everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClusteredVectors"]

_BLOCK = 20_000


@dataclass(frozen=True, kw_only=True)
class ClusteredVectors:
    """``clustered-v1``: Gaussian clusters of unequal size with correlated noise, L2-normalised.

    A vector is ``c + 0.6 |c| n / |n|-ish``: ``c`` is one of ``clusters`` standard normal centres, chosen with Zipf
    weights (rank ** -0.5); the noise is normal with standard deviation proportional to ``i ** -0.5`` in dimension i, so
    that half of its energy lies in few dimensions, and has 0.6 times the centre's expected length.

    Args:
        rows: N.
        dim: D.
        clusters: how many centres.
        seed: of the centres; block b of the rows has the seed (seed, 1, b), block b of the queries (seed, 2, b).
    """

    rows: int = 1_000_000
    dim: int = 256
    clusters: int = 4_000
    seed: int = 0
    noise: float = 0.6

    def write(self, path: Path, progress: Callable[[int], None] = lambda rows: None) -> None:
        """Write the N rows as a ``.npy`` file of fp32; a file that is there and has the shape is kept."""
        if path.is_file() and np.load(path, mmap_mode="r").shape == (self.rows, self.dim):
            progress(self.rows)
            return
        temporary = path.with_suffix(".part.npy")
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=(self.rows, self.dim))
        start = 0
        for block in self._blocks(self.rows, 1):
            array[start : start + len(block)] = block
            start += len(block)
            progress(len(block))
        array.flush()
        del array
        temporary.replace(path)

    def queries(self, count: int) -> NDArray[np.float32]:
        """(count, D) vectors of the same clusters that are not among the rows."""
        return np.concatenate(list(self._blocks(count, 2)))

    def _blocks(self, count: int, stream: int) -> Iterator[NDArray[np.float32]]:
        centres = np.random.default_rng((self.seed, 0)).standard_normal((self.clusters, self.dim), dtype=np.float32)
        weights = np.arange(1, self.clusters + 1) ** -0.5
        scale = np.arange(1, self.dim + 1, dtype=np.float32) ** -0.5
        scale *= self.noise * np.sqrt(self.dim / (scale**2).sum())
        for number, start in enumerate(range(0, count, _BLOCK)):
            rng = np.random.default_rng((self.seed, stream, number))
            size = min(_BLOCK, count - start)
            chosen = rng.choice(self.clusters, size=size, p=weights / weights.sum())
            block = centres[chosen] + scale * rng.standard_normal((size, self.dim), dtype=np.float32)
            yield block / np.linalg.norm(block, axis=1, keepdims=True)
