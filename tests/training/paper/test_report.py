"""What the report says of numbers that are known: means, spreads, directions, seeds, curves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.paper.curves import draw_curves
from vlkd_training.paper.report import BEGIN, END, verdict, write_markdown
from vlkd_training.paper.results import Cell, Results

_spec = importlib.util.spec_from_file_location("fake_ladder", Path(__file__).with_name("fake_ladder.py"))
assert _spec is not None and _spec.loader is not None
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)


def finished(seeds: tuple[int, ...] = (0, 1, 2)) -> Results:
    ladder = fake.FakeLadder()
    runs: list[dict[str, Any]] = []
    for job in ladder.jobs(seeds):
        value = ladder.values[job.name] + job.seed
        losses = {"part": [[1, 2.0 + job.seed], [2, value]]}
        scores = {"score": value, "guess": 1.0}
        runs.append({"name": job.name, "seed": job.seed, "steps": 3, "scores": scores, "losses": losses, "seconds": 60})
    return Results(runs)


def test_a_row_has_mean_spread_the_papers_number_and_the_direction(tmp_path: Path) -> None:
    """8, 9, 10 are 9 ± 1, below 10, 11, 12 in every seed, as 40 is below 50; 12 to 14 are above, and 45 is not."""
    write_markdown(tmp_path / "page.md", fake.FakeLadder(), finished())
    text = (tmp_path / "page.md").read_text()
    assert "| whole | 11.0 ± 1.0 [50.0] |  | 3 |" in text
    assert "| less | 9.0 ± 1.0 [40.0] | Score agrees | 3 |" in text
    assert "| more | 13.0 ± 1.0 [45.0] | Score disagrees | 3 |" in text
    assert "9 finished runs, 9 minutes." in text
    assert "Without looking at the picture: Score 1.0" in text


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    write_markdown(tmp_path / "page.md", fake.FakeLadder(), finished((0,)))
    assert "| less | 8.0 [40.0] | Score agrees (one seed) | 1 |" in (tmp_path / "page.md").read_text()


def test_seeds_are_compared_with_their_own_reference() -> None:
    """The second seed is better in both rows; only the differences inside a seed count."""
    reference, row = Cell({0: 10.0, 1: 20.0, 2: 5.0}), Cell({0: 9.0, 1: 19.0})
    assert verdict(row, reference, 40.0, 50.0) == "agrees"
    assert verdict(Cell({0: 9.0, 1: 21.0}), reference, 40.0, 50.0) == "1 of 2 agree"
    assert verdict(Cell({0: 10.0, 1: 20.0}), reference, 40.0, 50.0) == "disagrees"
    assert verdict(Cell({7: 1.0}), reference, 40.0, 50.0) == ""


def test_text_around_the_marked_part_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    write_markdown(page, fake.FakeLadder(), finished())
    first = page.read_text()
    assert first.startswith("# Mine\n\nBefore.") and first.endswith("After.\n") and "old" not in first
    write_markdown(page, fake.FakeLadder(), finished())
    assert page.read_text() == first


def test_curves_are_the_same_file_for_the_same_numbers(tmp_path: Path) -> None:
    comparison = fake.FakeLadder().comparisons()[0]
    assert draw_curves(comparison, finished(), tmp_path / "a" / "one.svg")
    assert draw_curves(comparison, finished(), tmp_path / "b" / "one.svg")
    drawn = (tmp_path / "a" / "one.svg").read_bytes()
    assert drawn == (tmp_path / "b" / "one.svg").read_bytes()
    assert b"whole (3)" in drawn and b"less (3)" in drawn and b"more (3)" in drawn
    assert not draw_curves(comparison, Results([]), tmp_path / "none.svg") and not (tmp_path / "none.svg").exists()


def test_a_file_that_is_no_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished run"):
        Results.read(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x@0.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(DataError, match=r"x@0.json is no finished run: it lacks seed"):
        Results.read(tmp_path)
    (tmp_path / "runs" / "x@0.json").write_text("{")
    with pytest.raises(DataError, match=r"x@0.json is no finished run"):
        Results.read(tmp_path)
