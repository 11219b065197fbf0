"""A few numbers that stand for a large tensor: small enough to store, and moved by a change of any of its values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUMBERS", "sketch"]

NUMBERS = 4


def sketch(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums with random signs, divided by the root of their count.

    ``s_k = sum_i r_ik x_i / sqrt(n)`` with ``r_ik`` of -1 or 1: errors of size e everywhere move a sum by about e; one
    value that is off by d moves each sum by d / sqrt(n).

    Args:
        rows: shape ``(count, ...)``; each row is sketched alone.

    Returns:
        Shape ``(count, NUMBERS)``. The signs are the same on every machine (numpy's frozen ``RandomState``).
    """
    flat = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    size = flat.shape[1]
    signs = np.random.RandomState(size % 2**32).randint(0, 2, (size, NUMBERS)) * 2 - 1
    sums: NDArray[np.float64] = flat @ signs / np.sqrt(size)
    return sums
