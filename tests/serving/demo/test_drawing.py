"""What is drawn lies where the patch is: light and outline of the best patches, heat of the attention."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vlkd_hub.runtime.matching import MatchedWord, WordMatch
from vlkd_serving.demo.drawing import BEST, SIDE, draw_attention, draw_patches


def matched(top: tuple[tuple[int, int], ...], attention: np.ndarray | None, region: tuple[float, ...]) -> WordMatch:
    scores = np.zeros((4, 4), np.float32)
    word = MatchedWord(text="x", start=0, end=1, scores=scores, top=top, attention=attention)
    return WordMatch(words=(word,), rows=4, columns=4, region=region)  # type: ignore[arg-type]


def test_the_best_patches_stay_light() -> None:
    """Every other place is darker; the best one has the colour of its outline."""
    match = matched(((1, 2), (3, 0)), None, (0.0, 0.0, 1.0, 1.0))
    pixels = np.asarray(draw_patches(Image.new("RGB", (320, 320), "white"), match, match.words[0]))
    assert pixels.shape == (SIDE, SIDE, 3)
    cell = SIDE // 4
    middles = pixels[cell // 2 :: cell, cell // 2 :: cell, 0]
    light = np.zeros((4, 4), bool)
    light[1, 2] = light[3, 0] = True
    assert (middles[light] == 255).all() and (middles[~light] < 128).all()
    assert tuple(pixels[cell + 60, 2 * cell]) == BEST  # its left edge
    assert tuple(pixels[3 * cell + 60, 0]) == (255, 255, 255)


def test_the_region_places_the_grid() -> None:
    """Of a wide picture the model saw the middle: its first column begins at a quarter of the width."""
    match = matched(((0, 0),), None, (0.25, 0.0, 0.75, 1.0))
    pixels = np.asarray(draw_patches(Image.new("RGB", (640, 320), "white"), match, match.words[0]))
    assert pixels.shape == (320, 640, 3)
    assert pixels[40, 200, 0] == 255 and pixels[40, 120, 0] < 128 and pixels[40, 280, 0] < 128


def test_heat_is_where_the_attention_is() -> None:
    """Bright where it is largest, dark where it is least; outside of what the model saw, grey."""
    attention = np.zeros((4, 4), np.float32)
    attention[3, 3] = 0.5
    match = matched(((0, 0),), attention, (0.25, 0.0, 0.75, 1.0))
    drawn = draw_attention(Image.new("RGB", (640, 320), (90, 90, 90)), match, match.words[0])
    assert drawn is not None
    pixels = np.asarray(drawn).astype(int)
    assert pixels[300, 460].sum() > 500 and pixels[200, 200].sum() < 200
    assert len(set(pixels[160, 20])) == 1
    assert tuple(pixels[40, 160]) == BEST


def test_without_attention_nothing_is_drawn() -> None:
    match = matched(((0, 0),), None, (0.0, 0.0, 1.0, 1.0))
    assert draw_attention(Image.new("RGB", (40, 40)), match, match.words[0]) is None


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (8, 8)])
def test_thin_and_tiny_pictures(size: tuple[int, int]) -> None:
    """Padding around them is outside of the picture; nothing fails."""
    match = matched(((0, 0), (2, 2)), np.ones((4, 4), np.float32), (-2.0, -1.0, 3.0, 2.0))
    picture = Image.new("RGB", size)
    assert draw_patches(picture, match, match.words[0]).size[0] >= 1
    assert draw_attention(picture, match, match.words[0]) is not None
