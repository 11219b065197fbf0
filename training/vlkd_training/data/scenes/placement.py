"""Places objects so that none overlaps another and most left/right, above/below relations are clear."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlkd_training.data.scenes.world import SceneObject

__all__ = ["place"]

_GAP = 0.025
_BORDER = 0.02
_TRIES = 60


def place(objects: list[SceneObject], rng: random.Random) -> tuple[SceneObject, ...] | None:
    """Give each object a free place, larger ones first; the result is in reading order (left to right).

    Args:
        objects: with their radii set.
        rng: the scene's random stream.

    Returns:
        The placed objects, or None where they did not fit in the allowed number of tries.
    """
    placed: list[SceneObject] = []
    for item in sorted(objects, key=lambda item: -item.radius):
        spot = _free_spot(item.radius, placed, rng)
        if spot is None:
            return None
        placed.append(dataclasses.replace(item, x=spot[0], y=spot[1]))
    return tuple(sorted(placed, key=lambda item: item.x))


def _free_spot(radius: float, placed: list[SceneObject], rng: random.Random) -> tuple[float, float] | None:
    low, high = radius + _BORDER, 1 - radius - _BORDER
    for _ in range(_TRIES):
        x, y = low + (high - low) * rng.random(), low + (high - low) * rng.random()
        if all((x - other.x) ** 2 + (y - other.y) ** 2 >= (radius + other.radius + _GAP) ** 2 for other in placed):
            return x, y
    return None
