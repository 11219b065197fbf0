"""Draws a scene: each object on its own patch at four times the size, reduced and laid on the ground with a shadow."""

from __future__ import annotations

import functools

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vlkd_training.data.scenes.backgrounds import draw_background
from vlkd_training.data.scenes.shapes import RING_HOLE, outline, rotated
from vlkd_training.data.scenes.vocabulary import COLORS
from vlkd_training.data.scenes.world import Scene, SceneObject

__all__ = ["object_box", "render"]

_OVERSAMPLING = 4
_PERIOD = 0.052
"""Distance from stripe to stripe, or dot to dot, as a part of the picture's side."""

Rgb = tuple[int, int, int]


def render(scene: Scene, size: int = 160) -> Image.Image:
    """Draw a scene as an RGB picture of ``size`` x ``size`` pixels. The same scene gives the same bytes."""
    picture = draw_background(scene.background, size, scene.texture_seed)
    for item in scene.objects:
        _draw(picture, item)
    return picture


def object_box(item: SceneObject, size: int) -> list[int]:
    """[x0, y0, x1, y1] of an object in pixels: the box of its drawn outline, cut at the picture's border."""
    points = rotated(outline(item.shape), item.angle, item.radius * size, 0.0)
    xs, ys = [x + item.x * size for x, _ in points], [y + item.y * size for _, y in points]
    ends = (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
    return [min(max(int(end), 0), size) for end in ends]


def _draw(picture: Image.Image, item: SceneObject) -> None:
    size = picture.width
    radius = item.radius * size
    half = int(radius * 1.15) + 4
    side = 2 * half * _OVERSAMPLING
    # The patch lies on whole pixels; what is left of the centre moves the outline inside it.
    left, top = int(item.x * size) - half, int(item.y * size) - half
    shift_x, shift_y = (item.x * size - left) * _OVERSAMPLING, (item.y * size - top) * _OVERSAMPLING
    points = rotated(outline(item.shape), item.angle, radius * _OVERSAMPLING, 0.0)
    rings = [[(x + shift_x, y + shift_y) for x, y in points]]
    if item.shape == "ring":
        rings.append([(x * RING_HOLE + shift_x, y * RING_HOLE + shift_y) for x, y in points])
    mask = Image.new("L", (side, side))
    paint = ImageDraw.Draw(mask)
    paint.polygon(rings[0], fill=255)
    for hole in rings[1:]:
        paint.polygon(hole, fill=0)
    patch = _filled(item, side, size, (shift_x, shift_y), radius * _OVERSAMPLING)
    edge = ImageDraw.Draw(patch)
    width = max(2, round(0.016 * size * _OVERSAMPLING))
    for ring in rings:
        edge.line([*ring, ring[0], ring[1]], fill=_edge_color(COLORS[item.color]), width=width, joint="curve")
    alpha = mask.reduce(_OVERSAMPLING)
    shadow = ImageChops.offset(alpha, 1 + size // 110, 1 + size // 80).filter(ImageFilter.BoxBlur(max(1, size // 90)))
    picture.paste((20, 20, 26), (left, top), shadow.point(_shadow_table()))
    picture.paste(patch.reduce(_OVERSAMPLING), (left, top), alpha)


def _filled(item: SceneObject, side: int, size: int, center: tuple[float, float], radius: float) -> Image.Image:
    color = COLORS[item.color]
    patch = Image.new("RGB", (side, side), color)
    if item.material == "striped":
        patch.paste(_second_color(color), mask=_stripes(size).crop((0, 0, side, side)))
    elif item.material == "dotted":
        patch.paste(_second_color(color), mask=_dots(size).crop((0, 0, side, side)))
    elif item.material == "shiny":
        glow = int(2.5 * radius)
        corner = (int(center[0] - 0.4 * radius - glow / 2), int(center[1] - 0.45 * radius - glow / 2))
        patch.paste(_mix(color, (0, 0, 0), 0.35), (0, 0, side, side))
        patch.paste(_mix(color, (255, 255, 255), 0.06), corner, _glow_mask().resize((glow, glow)))
        spot = int(1.0 * radius)
        corner = (int(center[0] - 0.38 * radius - spot / 2), int(center[1] - 0.4 * radius - spot / 2))
        patch.paste((255, 255, 255), corner, _glow_mask().resize((spot, spot)))
    return patch


def _mix(color: Rgb, other: Rgb, part: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(color, other, strict=True))
    return red, green, blue


def _luminance(color: Rgb) -> float:
    return (0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]) / 255


def _second_color(color: Rgb) -> Rgb:
    """The colour of stripes and dots: light on dark colours, dark on light ones."""
    if _luminance(color) > 0.9:
        return _mix(color, (60, 64, 72), 0.6)
    return _mix(color, (255, 255, 255), 0.78)


def _edge_color(color: Rgb) -> Rgb:
    return (128, 130, 136) if _luminance(color) < 0.15 else _mix(color, (0, 0, 0), 0.62)


@functools.lru_cache(maxsize=4)
def _stripes(size: int) -> Image.Image:
    side, period = size * _OVERSAMPLING, _PERIOD * size * _OVERSAMPLING * 1.4142
    tile = Image.new("L", (side, side))
    paint = ImageDraw.Draw(tile)
    for step in range(-1, int(2 * side / period) + 2):
        low, high = step * period, (step + 0.36) * period
        paint.polygon([(low, 0), (high, 0), (high - 2 * side, 2 * side), (low - 2 * side, 2 * side)], fill=255)
    return tile


@functools.lru_cache(maxsize=4)
def _dots(size: int) -> Image.Image:
    side, period = size * _OVERSAMPLING, _PERIOD * size * _OVERSAMPLING
    tile = Image.new("L", (side, side))
    paint = ImageDraw.Draw(tile)
    radius = 0.29 * period
    for row in range(int(side / period) + 1):
        for column in range(int(side / period) + 1):
            x, y = (column + 0.5 * (row % 2)) * period, row * period * 0.9
            paint.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return tile


@functools.lru_cache(maxsize=1)
def _glow_mask() -> Image.Image:
    """A soft round spot, white in the middle."""
    return ImageChops.invert(Image.radial_gradient("L")).point([min(255, max(0, 2 * v - 148)) for v in range(256)])


@functools.lru_cache(maxsize=1)
def _shadow_table() -> list[int]:
    return [value * 45 // 100 for value in range(256)]
