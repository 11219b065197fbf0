"""A word in a picture: its best patches in full light, and what the best of them attends to as a heat map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vlkd_hub.runtime.matching import MatchedWord, WordMatch

__all__ = ["draw_attention", "draw_patches"]

SIDE = 640
"""Longer side of a drawn picture, pixels."""
SHADE = 0.42
"""Light that is left outside the best patches."""
BEST = (255, 138, 0)
OTHERS = (255, 255, 255)
DARK = (15, 23, 42)
HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
"""From no attention to the most."""
COVER = 0.62
"""How much of the heat map is seen, and how little of the picture."""

Box = tuple[int, int, int, int]


def draw_patches(picture: Image.Image, match: WordMatch, word: MatchedWord) -> Image.Image:
    """The picture, dark but for the word's best patches, which are outlined and numbered.

    Args:
        picture: RGB, the one that was matched.
        match: of the picture.
        word: one of its words.
    """
    canvas = _enlarged(picture)
    boxes = [_box(canvas.size, match, *place) for place in word.top]
    dark = Image.fromarray((np.asarray(canvas) * SHADE).astype(np.uint8))
    for box in boxes:
        if box[2] > box[0] and box[3] > box[1]:
            dark.paste(canvas.crop(box), box[:2])
    pen = ImageDraw.Draw(dark)
    for rank in reversed(range(len(boxes))):
        _outline(pen, boxes[rank], BEST if rank == 0 else OTHERS, 4 if rank == 0 else 2)
    for rank in reversed(range(len(boxes))):
        _number(pen, boxes[rank], rank + 1, BEST if rank == 0 else OTHERS)
    return dark


def draw_attention(picture: Image.Image, match: WordMatch, word: MatchedWord) -> Image.Image | None:
    """The self-attention of the word's best patch over the picture in grey; the patch itself is outlined.

    None where the model has no attention to show.
    """
    if word.attention is None:
        return None
    canvas = _enlarged(picture)
    low, high = float(word.attention.min()), float(word.attention.max())
    shares = (word.attention - low) / max(high - low, 1e-12)
    left, top, right, bottom = _region(canvas.size, match)
    size = (max(1, right - left), max(1, bottom - top))
    grid = Image.fromarray(shares.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    heat = Image.fromarray(_coloured(np.asarray(grid)))
    grey = canvas.convert("L").convert("RGB")
    covered = grey.copy()
    covered.paste(heat, (left, top))
    blended = Image.blend(grey, covered, COVER)
    pen = ImageDraw.Draw(blended)
    _outline(pen, _box(canvas.size, match, *word.top[0]), BEST, 4)
    return blended


def _enlarged(picture: Image.Image) -> Image.Image:
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _region(size: tuple[int, int], match: WordMatch) -> Box:
    """What the grid divides, in pixels of a picture of ``size``."""
    left, top, right, bottom = match.region
    return round(left * size[0]), round(top * size[1]), round(right * size[0]), round(bottom * size[1])


def _box(size: tuple[int, int], match: WordMatch, row: int, column: int) -> Box:
    """Pixels of one patch, as far as they are in the picture."""
    left, top, right, bottom = _region(size, match)
    width, height = (right - left) / match.columns, (bottom - top) / match.rows
    box = (left + column * width, top + row * height, left + (column + 1) * width, top + (row + 1) * height)
    limits = (size[0], size[1], size[0], size[1])
    x0, y0, x1, y1 = (min(max(round(edge), 0), limit) for edge, limit in zip(box, limits, strict=True))
    return x0, y0, x1, y1


def _outline(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int], width: int) -> None:
    x0, y0, x1, y1 = box
    if x1 - x0 > 2 * width and y1 - y0 > 2 * width:
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=DARK, width=width + 1)
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=width)


def _number(pen: ImageDraw.ImageDraw, box: Box, rank: int, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    side = max(14, min(26, (x1 - x0) // 2, (y1 - y0) // 2))
    pen.rectangle((x0, y0, x0 + side, y0 + side), fill=colour)
    middle = (x0 + side / 2, y0 + side / 2)
    pen.text(middle, str(rank), fill=DARK, font=ImageFont.load_default(side * 0.75), anchor="mm")


def _coloured(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Shares of the largest attention, ``(height, width)``, as colours ``(height, width, 3)``."""
    places = np.clip(shares, 0, 1) * (len(HEAT) - 1)
    low = np.minimum(places.astype(int), len(HEAT) - 2)
    between = (places - low)[..., None]
    colours: NDArray[np.uint8] = (HEAT[low] * (1 - between) + HEAT[low + 1] * between).astype(np.uint8)
    return colours
