"""Loss curves as small pictures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from vlkd_hub._optional import require
from vlkd_training.paper.jobs import Comparison
from vlkd_training.paper.results import Results

__all__ = ["draw_curves"]


def draw_curves(comparison: Comparison, results: Results, file: Path) -> bool:
    """Draw every part of the loss over the steps, a line a row: the mean over its seeds, shaded from least to largest.

    The same numbers give the same file, byte for byte.

    Args:
        comparison: whose rows are drawn.
        results: finished runs.
        file: an .svg; its folder is made.

    Returns:
        Whether there was anything to draw.
    """
    lines = _lines(comparison, results)
    if not lines:
        return False
    matplotlib = require("matplotlib", "train")
    figure_class = require("matplotlib.figure", "train").Figure
    figure = figure_class(figsize=(3.4 * len(lines), 2.9), layout="constrained")
    axes = figure.subplots(1, len(lines), squeeze=False)[0]
    for axis, (part, rows) in zip(axes, sorted(lines.items()), strict=True):
        for title, curves in rows.items():
            steps, values = _joined(curves)
            mean = [sum(column) / len(column) for column in values]
            (line,) = axis.plot(steps, mean, linewidth=1.2, label=f"{title} ({len(curves)})")
            low, high = [min(column) for column in values], [max(column) for column in values]
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set_title(part, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.set_yscale("log")
        axis.tick_params(labelsize=7, which="both")
        axis.legend(fontsize=6)
    file.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": comparison.name, "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})
    return True


def _lines(comparison: Comparison, results: Results) -> dict[str, dict[str, list[list[list[float]]]]]:
    """Part of the loss -> row's title -> a curve a seed; rows that read the same run are drawn once."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    drawn: set[str] = set()
    for row in comparison.rows:
        if row.run in drawn:
            continue
        drawn.add(row.run)
        for run in results.runs.get(row.run, {}).values():
            for part, curve in run["losses"].items():
                if curve:
                    found[part].setdefault(row.title, []).append(curve)
    return dict(found)


def _joined(curves: list[list[list[float]]]) -> tuple[list[float], list[tuple[float, ...]]]:
    """Steps that every seed has, and the values there."""
    tables = [dict((step, value) for step, value in curve) for curve in curves]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return steps, [tuple(table[step] for table in tables) for step in steps]
