"""The words and colours of the scenes world, and the shape-colour pairs that training never sees."""

from __future__ import annotations

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "DIAMETERS",
    "HELD_OUT_PAIRS",
    "MATERIALS",
    "NUMBER_WORDS",
    "SEEN_PAIRS",
    "SHAPES",
    "SIZES",
    "SPLITS",
]

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "hexagon", "cross", "heart", "diamond", "ring")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 34, 40),
    "orange": (245, 134, 18),
    "yellow": (250, 216, 36),
    "green": (28, 156, 62),
    "blue": (34, 84, 214),
    "purple": (128, 44, 168),
    "pink": (250, 130, 184),
    "brown": (116, 68, 32),
    "white": (250, 250, 248),
    "black": (24, 24, 28),
}

DIAMETERS: dict[str, float] = {"small": 0.165, "medium": 0.25, "large": 0.37}
"""Diameter of an object as a part of the picture's side."""

SIZES: tuple[str, ...] = tuple(DIAMETERS)
MATERIALS: tuple[str, ...] = ("plain", "striped", "dotted", "shiny")
BACKGROUNDS: tuple[str, ...] = ("sand", "grass", "wood", "stone", "water", "snow")
NUMBER_WORDS: tuple[str, ...] = ("no", "one", "two", "three", "four", "five")

SPLITS: tuple[str, ...] = ("train", "validation", "test", "test_compositional")

HELD_OUT_PAIRS: tuple[tuple[str, str], ...] = (
    ("red", "star"),
    ("orange", "ring"),
    ("yellow", "cross"),
    ("green", "heart"),
    ("blue", "triangle"),
    ("purple", "circle"),
    ("pink", "square"),
    ("brown", "diamond"),
    ("white", "hexagon"),
    ("black", "circle"),
)
"""(colour, shape) pairs that only ``test_compositional`` draws or names: 10 of 90, each colour once."""

SEEN_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in HELD_OUT_PAIRS
)
