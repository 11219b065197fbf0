"""Queries of several parts: a sentence and a picture, with weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index.vectors import FloatArray, normalise

__all__ = ["mix"]


def mix(parts: Sequence[FloatArray], weights: Sequence[float] | None = None) -> FloatArray:
    """One query vector from several: the weighted sum of the L2-normalised parts, normalised.

    Args:
        parts: (D,) each.
        weights: one a part; equal where None. A negative one leads away from its part.

    Returns:
        (D,).

    Raises:
        InvalidInputError: another number of weights than parts, a weight that is no number, parts that cancel out.
    """
    if not parts:
        raise InvalidInputError("A query needs at least one part.")
    weights = [1.0] * len(parts) if weights is None else list(weights)
    if len(weights) != len(parts) or not np.isfinite(weights).all():
        raise InvalidInputError(f"Expected one finite weight for each of {len(parts)} parts, got {weights}.")
    total = np.asarray(weights, dtype=np.float32) @ normalise(np.stack(parts))
    if np.linalg.norm(total) < 1e-6:
        raise InvalidInputError("The parts of the query cancel out under these weights: nothing is left to look for.")
    return np.asarray(normalise(total[None])[0])
