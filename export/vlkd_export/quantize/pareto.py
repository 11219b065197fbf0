"""The picture of what was tried: quality lost against time, the size as the area of the dots. SVG, drawn by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "pareto_front", "pareto_svg"]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 460, 70, 60, 50, 30
MAX_RADIUS = 16.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way to ship the bundle."""

    name: str
    ms: float
    """Milliseconds of the work that is compared."""
    lost: float
    """Points lost by the worst measure; negative where all gained."""
    bytes: int
    chosen: bool = False


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats in time, loss and size at once, in the order of their time."""
    front = [one for one in points if not any(_beats(other, one) for other in points)]
    return sorted(front, key=lambda point: (point.ms, point.lost))


def _beats(one: Point, other: Point) -> bool:
    pairs = ((one.ms, other.ms), (one.lost, other.lost), (one.bytes, other.bytes))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def pareto_svg(points: Sequence[Point], title: str, limit: float) -> str:
    """Draw the points.

    Args:
        points: one at least.
        title: above the picture.
        limit: points that may be lost, drawn as a line.

    Returns:
        A whole SVG document.
    """
    top_ms = max(point.ms for point in points) * 1.15
    low = min(0.0, *(point.lost for point in points))
    high = max(limit, *(point.lost for point in points))
    margin = 0.1 * (high - low) or 1.0
    low, high = low - margin, high + margin
    largest = max(point.bytes for point in points)

    def x(ms: float) -> float:
        return LEFT + ms / top_ms * (WIDTH - LEFT - RIGHT)

    def y(lost: float) -> float:
        return TOP + (high - lost) / (high - low) * (HEIGHT - TOP - BOTTOM)

    front = pareto_front(points)
    parts = [*_frame(title, top_ms, low, high), _line(LEFT, y(limit), WIDTH - RIGHT, y(limit), "#d62728", "6 4")]
    parts.append(_text(WIDTH - RIGHT - 4, y(limit) - 5, f"limit {limit:g}", "end", "#d62728"))
    path = " ".join(f"{x(point.ms):.1f},{y(point.lost):.1f}" for point in front)
    parts.append(f'<polyline points="{path}" fill="none" stroke="#1f77b4" stroke-width="1"/>')
    for point in sorted(points, key=lambda item: -item.bytes):
        colour = "#2ca02c" if point.chosen else "#1f77b4" if point in front else "#999999"
        radius = max(3.0, MAX_RADIUS * (point.bytes / largest) ** 0.5)
        words = f"{point.name}: {point.ms:.2f} ms, {point.lost:+.2f} points lost, {point.bytes / 1e6:.1f} MB"
        parts.append(
            f'<circle cx="{x(point.ms):.1f}" cy="{y(point.lost):.1f}" r="{radius:.1f}" fill="{colour}" '
            f'fill-opacity="0.55" stroke="{colour}"><title>{escape(words)}</title></circle>'
        )
        if point.chosen or point.name == "fp32":
            label = f"{point.name}, {point.bytes / 1e6:.0f} MB"
            parts.append(_text(x(point.ms), y(point.lost) - radius - 4, label, "middle", "#222222"))
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return f'{head}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'


def _frame(title: str, top_ms: float, low: float, high: float) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        _text(WIDTH / 2, 24, title, "middle", "#000000", 15),
        _text((LEFT + right) / 2, HEIGHT - 14, "milliseconds, batch 1", "middle", "#000000"),
        f'<g transform="rotate(-90 18 {HEIGHT / 2})">'
        + _text(18, HEIGHT / 2, "points lost (worst measure)", "middle", "#000000")
        + "</g>",
        _line(LEFT, bottom, right, bottom, "#000000"),
        _line(LEFT, TOP, LEFT, bottom, "#000000"),
    ]
    for step in range(6):
        share = step / 5
        at_x, at_y = LEFT + share * (right - LEFT), bottom - share * (bottom - TOP)
        parts.append(_text(at_x, bottom + 18, f"{share * top_ms:.3g}", "middle", "#444444"))
        parts.append(_text(LEFT - 8, at_y + 4, f"{low + share * (high - low):.2f}", "end", "#444444"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'


def _text(x: float, y: float, words: str, anchor: str, colour: str, size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f"<text {place}>{escape(words)}</text>"
