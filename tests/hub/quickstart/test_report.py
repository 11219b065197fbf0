"""The final table: the right figures in the right places, and a dash where a figure is absent."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console, RenderableType

from vlkd_hub.quickstart import report


def retrieval(value: float) -> dict:
    way = {"r@1": 0.1, "r@5": 0.2, "r@10": value, "chance_r@10": 0.02}
    return {"text_to_image": way, "image_to_text": way}


TEACHER = {"parameters": 30_000_000, "size_bytes": 10 << 20, "splits": {"test": {"retrieval": retrieval(0.91)}}}
STUDENT = {
    "parameters": 12_340_000,
    "size_bytes": 50 << 20,
    "splits": {
        "test": {
            "retrieval": retrieval(0.885),
            "caption": {"cider": 2.346, "cider_shuffled": 0.41},
            "vqa": {
                "accuracy": 0.75,
                "baseline": 0.36,
                "by_type": {"shape": {"accuracy": 0.8, "baseline": 0.3, "n": 10}, "color": {"accuracy": 0.9, "n": 10}},
            },
        },
        "test_compositional": {"retrieval": retrieval(0.7)},
    },
}
BENCH = {"torch_ms": 200.0, "onnx_ms": 80.0, "ratio_onnx": 2.5, "load_average": [0.5, 0.3, 0.1], "threads": 2}


def rows(table: RenderableType) -> list[list[str]]:
    """Cells of each printed line."""
    out = io.StringIO()
    Console(file=out, width=160).print(table)
    lines = out.getvalue().replace("┃", "│").splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_quality() -> None:
    """Fractions become per cent; CIDEr does not; every split has its own rows and its own chance."""
    shown = rows(report.quality_table(TEACHER, STUDENT))
    assert ["test", "text to image R@10", "91.0 %", "88.5 %", "2.0 % chance"] in shown
    assert ["test", "caption CIDEr", "-", "2.35", "0.41 shuffled pictures"] in shown
    assert ["test", "questions: all", "-", "75.0 %", "36.0 % most frequent"] in shown
    assert ["test", "questions: shape", "-", "80.0 %", "30.0 % most frequent"] in shown
    assert ["test", "questions: color", "-", "90.0 %", "- most frequent"] in shown
    assert ["test_compositional", "text to image R@10", "-", "70.0 %", "2.0 % chance"] in shown
    assert not [row for row in shown if row[0] == "test_compositional" and "CIDEr" in row[1]]


def test_speed() -> None:
    reports = {"teacher": TEACHER, "student": STUDENT, "export": {"size_bytes": 25 << 20}, "bench": BENCH}
    shown = rows(report.speed_table(reports))
    assert ["parameters", "30.0 M", "12.3 M", "-"] in shown
    assert ["on disk", "10.0 MiB", "50.0 MiB", "25.0 MiB"] in shown
    assert ["one caption", "-", "200.0 ms", "80.0 ms"] in shown
    assert ["times as fast as torch", "-", "1.0", "2.5"] in shown
    assert any("2 threads; load average 0.5, 0.3, 0.1" in " ".join(row) for row in shown)


def test_search() -> None:
    hits = [
        {"id": "7.png", "score": 0.51234, "metadata": {"captions": ["a red circle", "b"]}},
        {"id": "8.png", "score": 0.5},
    ]
    shown = rows(report.search_table("a red circle", {"results": hits}))
    assert ["0.512", "7.png", "a red circle"] in shown
    assert ["0.500", "8.png", ""] in shown


def test_absent_figures_do_not_break_the_table() -> None:
    """The table comes after minutes of work; a report without a field must not cost the person the rest."""
    empty = {"teacher": {}, "student": {}, "export": {}, "bench": {}}
    assert ["one caption", "-", "-", "-"] in rows(report.speed_table(empty))
    assert rows(report.quality_table({}, {"splits": {"test": {"vqa": None}}}))
    assert rows(report.quality_table({}, {}))
    assert rows(report.search_table("x", {}))


def test_seconds_add_up() -> None:
    shown = rows(report.seconds_table({"data": 10.4, "teacher": 20.4}))
    assert ["data", "10"] in shown
    assert ["all", "31"] in shown


def test_load(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": 1}')
    (tmp_path / "b.json").write_text("{")
    assert report.load(tmp_path, ["a", "b", "c"]) == {"a": {"x": 1}, "b": {}, "c": {}}
