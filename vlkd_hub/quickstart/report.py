"""The table at the end of the quickstart, from the JSON files that the verbs wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

__all__ = ["load", "quality_table", "search_table", "seconds_table", "speed_table"]

NONE = "-"


def load(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Name -> content of ``folder/name.json``; an empty dict where the file is absent or is not JSON."""
    reports = {}
    for name in names:
        try:
            reports[name] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            reports[name] = {}
    return reports


def quality_table(teacher: dict[str, Any], student: dict[str, Any]) -> Table:
    """Quality of teacher and student on each held-out split, each beside what guessing would get.

    Args:
        teacher: report of ``vlkd evaluate`` on the teacher (retrieval).
        student: report of ``vlkd evaluate`` on the student (retrieval, captions, questions).
    """
    table = Table(title="Quality on pictures not seen in training", title_justify="left")
    for name, justify in (("split", "left"), ("measure", "left"), ("teacher", "right"), ("student", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("without looking", justify="right")
    for split, measured in _get(student, "splits", default={}).items():
        for row in _rows(_get(teacher, "splits", split, default={}), measured):
            table.add_row(split, *row)
        table.add_section()
    return table


def _rows(teacher: dict[str, Any], student: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for way in ("text_to_image", "image_to_text"):
        path = ("retrieval", way)
        theirs, ours = _get(teacher, *path, "r@10"), _get(student, *path, "r@10")
        chance = f"{_percent(_get(student, *path, 'chance_r@10'))} chance"
        rows.append((f"{way.replace('_', ' ')} R@10", _percent(theirs), _percent(ours), chance))
    cider, shuffled = (_get(student, "caption", key) for key in ("cider", "cider_shuffled"))
    rows.append(("caption CIDEr", NONE, _number(cider, 2), f"{_number(shuffled, 2)} shuffled pictures"))
    vqa = _get(student, "vqa", default={})
    kinds = [("all", vqa), *sorted(_get(vqa, "by_type", default={}).items())]
    for kind, part in kinds:
        guess = f"{_percent(_get(part, 'baseline'))} most frequent"
        rows.append((f"questions: {kind}", NONE, _percent(_get(part, "accuracy")), guess))
    return [row for row in rows if row[1] != NONE or row[2] != NONE]


def speed_table(reports: dict[str, Any]) -> Table:
    """Size of teacher and student, and the time of one caption in torch and in ONNX.

    Args:
        reports: what ``load`` gave for teacher, student, export and bench.
    """
    table = Table(title="Size and speed", title_justify="left")
    table.add_column("", justify="left")
    for name in ("teacher", "student", "student, ONNX"):
        table.add_column(name, justify="right")
    teacher, student, bench = reports["teacher"], reports["student"], reports["bench"]
    millions = [_number(_get(r, "parameters"), 1, 1e6, " M") for r in (teacher, student)]
    table.add_row("parameters", *millions, NONE)
    sizes = [_number(_get(r, "size_bytes"), 1, 1 << 20, " MiB") for r in (teacher, student, reports["export"])]
    table.add_row("on disk", *sizes)
    times = [_number(_get(bench, key), 1, 1.0, " ms") for key in ("torch_ms", "onnx_ms")]
    table.add_row("one caption", NONE, *times)
    table.add_row("times as fast as torch", NONE, _number(1.0, 1), _number(_get(bench, "ratio_onnx"), 1))
    load_average = _get(bench, "load_average", default=[])
    if load_average:
        threads = _get(bench, "threads", default="?")
        table.caption = f"{threads} threads; load average {', '.join(_number(value, 1) for value in load_average)}"
    return table


def search_table(query: str, search: dict[str, Any]) -> Table:
    """The pictures found, each with one of the captions that the data set has for it.

    Args:
        query: the sentence.
        search: report of ``vlkd index search``.
    """
    table = Table(title=f'Search: "{query}"', title_justify="left")
    for name, justify in (("score", "right"), ("picture", "left"), ("said of it", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for hit in _get(search, "results", default=[]):
        captions = _get(hit, "metadata", "captions", default=[])
        table.add_row(_number(_get(hit, "score"), 3), str(_get(hit, "id", default=NONE)), *captions[:1])
    return table


def seconds_table(seconds: dict[str, float]) -> Table:
    """How long each step took, now or when it ran."""
    table = Table(title="Time", title_justify="left", show_footer=True)
    table.add_column("step", footer="all")
    table.add_column("seconds", footer=f"{sum(seconds.values()):.0f}", justify="right")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.0f}")
    return table


def _get(report: Any, *path: str, default: Any = None) -> Any:
    for key in path:
        report = report.get(key) if isinstance(report, dict) else None
    return default if report is None else report


def _percent(value: Any) -> str:
    return _number(value, 1, 0.01, " %")


def _number(value: Any, digits: int, unit: float = 1.0, suffix: str = "") -> str:
    return f"{value / unit:.{digits}f}{suffix}" if isinstance(value, int | float) else NONE
