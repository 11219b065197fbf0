"""Six procedural grounds: muted, low in contrast and mostly smooth, so that objects stand out and files stay small."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

__all__ = ["draw_background"]

_BASE = {
    "sand": (218, 196, 154),
    "grass": (132, 160, 104),
    "wood": (188, 150, 112),
    "stone": (150, 152, 156),
    "water": (110, 164, 186),
    "snow": (226, 234, 242),
}


def draw_background(name: str, size: int, seed: int) -> Image.Image:
    """Draw a ground.

    Args:
        name: one of the vocabulary's ``BACKGROUNDS``.
        size: side in pixels.
        seed: 32 bits that fix its noise and tone.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    tone = 10.0 * (rng.random(3) - 0.5) + 12.0 * (rng.random() - 0.5)
    light = _PATTERNS[name](rng, size)  # (size, size), about -1..1
    base = np.asarray(_BASE[name], dtype=np.float32) + tone.astype(np.float32)
    pixels = base + light[:, :, None] * np.asarray(_AMPLITUDE[name], dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


_AMPLITUDE = {
    "sand": (16, 15, 13),
    "grass": (22, 22, 16),
    "wood": (24, 22, 18),
    "stone": (22, 22, 22),
    "water": (20, 18, 14),
    "snow": (10, 8, 6),
}


@functools.lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(0, 1, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _noise(rng: np.random.Generator, size: int, columns: int, rows: int) -> np.ndarray:
    """Smooth noise in -1..1: a coarse random grid, enlarged."""
    coarse = Image.fromarray((rng.random((rows, columns)) * 255).astype(np.uint8), "L")
    fine = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    return fine / 127.5 - 1.0


def _sand(rng: np.random.Generator, size: int) -> np.ndarray:
    x, y = _grid(size)
    ripple = np.sin(2 * np.pi * (7 * y + 0.8 * np.sin(2 * np.pi * (x + rng.random()))) + 6 * rng.random())
    return 0.45 * ripple + 0.55 * _noise(rng, size, 40, 40)


def _grass(rng: np.random.Generator, size: int) -> np.ndarray:
    return 0.8 * _noise(rng, size, 56, 14) + 0.4 * _noise(rng, size, 6, 6)


def _wood(rng: np.random.Generator, size: int) -> np.ndarray:
    _, y = _grid(size)
    board = y * 4 + rng.random()
    seam = np.where(board % 1 < 0.05, -1.0, 0.0).astype(np.float32)
    tone = (rng.random(6).astype(np.float32) - 0.5)[board.astype(np.int64)]
    return seam + tone + 0.5 * _noise(rng, size, 5, 48)


def _stone(rng: np.random.Generator, size: int) -> np.ndarray:
    x, y = _grid(size)
    row = y * 5 + rng.random()
    column = x * 4 + 0.5 * (row.astype(np.int64) % 2) + rng.random()
    seam = np.where((row % 1 < 0.06) | (column % 1 < 0.05), -1.0, 0.0).astype(np.float32)
    tone = (rng.random((8, 8)).astype(np.float32) - 0.5)[row.astype(np.int64), column.astype(np.int64)]
    return seam + 0.8 * tone + 0.35 * _noise(rng, size, 20, 20)


def _water(rng: np.random.Generator, size: int) -> np.ndarray:
    x, y = _grid(size)
    bend = 0.35 * np.sin(2 * np.pi * (2 * x + rng.random())) + 0.2 * np.sin(2 * np.pi * (3.3 * x + rng.random()))
    wave = np.sin(2 * np.pi * (6 * y + bend))
    return 0.7 * np.where(wave > 0.75, 1.0, -0.1).astype(np.float32) + 0.5 * _noise(rng, size, 4, 8)


def _snow(rng: np.random.Generator, size: int) -> np.ndarray:
    return 0.9 * _noise(rng, size, 4, 4) + 0.4 * _noise(rng, size, 9, 9)


_PATTERNS = {"sand": _sand, "grass": _grass, "wood": _wood, "stone": _stone, "water": _water, "snow": _snow}
