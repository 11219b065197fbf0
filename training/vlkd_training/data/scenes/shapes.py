"""Outlines of the shapes, in a box from -1 to 1 with y downwards."""

from __future__ import annotations

import functools
import math

__all__ = ["RING_HOLE", "outline", "rotated"]

RING_HOLE = 0.52
"""Radius of a ring's hole as a part of its outer radius."""

Point = tuple[float, float]


def _regular(corners: int, radius: float, start: float) -> list[Point]:
    turn = 2 * math.pi / corners
    return [(radius * math.cos(start + turn * i), radius * math.sin(start + turn * i)) for i in range(corners)]


def _star() -> list[Point]:
    outer, inner = _regular(5, 1.06, -math.pi / 2), _regular(5, 0.45, -math.pi / 2 + math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> list[Point]:
    points = []
    for step in range(48):
        t = 2 * math.pi * step / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -(y + 2.5) / 15.5))
    return points


def _cross(arm: float = 0.32, reach: float = 0.95) -> list[Point]:
    return [
        (-arm, -reach), (arm, -reach), (arm, -arm), (reach, -arm), (reach, arm), (arm, arm),
        (arm, reach), (-arm, reach), (-arm, arm), (-reach, arm), (-reach, -arm), (-arm, -arm),
    ]  # fmt: skip


@functools.cache
def outline(shape: str) -> tuple[Point, ...]:
    """Corners of a shape's outer outline; circle and ring are 64-gons.

    Raises:
        KeyError: the shape is not in the vocabulary.
    """
    builders = {
        "circle": lambda: _regular(64, 0.96, 0.0),
        "ring": lambda: _regular(64, 0.98, 0.0),
        "square": lambda: [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
        "triangle": lambda: [(0.0, -0.98), (1.0, 0.78), (-1.0, 0.78)],
        "star": _star,
        "hexagon": lambda: _regular(6, 1.0, 0.0),
        "cross": _cross,
        "heart": _heart,
        "diamond": lambda: [(0.0, -1.06), (0.72, 0.0), (0.0, 1.06), (-0.72, 0.0)],
    }
    return tuple(builders[shape]())


def rotated(points: tuple[Point, ...], angle: float, scale: float, center: float) -> list[Point]:
    """Turn by ``angle`` degrees, stretch by ``scale`` pixels and move to (center, center)."""
    cos, sin = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    return [(center + x * cos - y * sin, center + x * sin + y * cos) for x, y in points]
