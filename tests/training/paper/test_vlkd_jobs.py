"""The ladder of VLKD keeps its word: one seed first, equal budgets, and the paper's own numbers."""

from __future__ import annotations

import pytest

from vlkd_training.paper.vlkd_jobs import PHOTOS, SCENES, comparisons, jobs

DOMAINS = (SCENES, PHOTOS)


def test_a_seed_of_every_comparison_comes_before_the_next_seed() -> None:
    seeds = [job.seed for job in jobs(DOMAINS, ["scenes", "photos"], [0, 1, 2])]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


def test_every_run_comes_after_those_that_it_starts_from() -> None:
    found = jobs(DOMAINS, ["scenes"], [0, 1])
    done: set[str] = set()
    for job in found:
        assert set(job.after) <= done, job.id
        done.add(job.id)
    assert len(done) == len(found)
    assert "photos/teacher@0" not in done and "scenes/teacher@0" in done


@pytest.mark.parametrize("table", comparisons(DOMAINS), ids=lambda table: table.name)
def test_rows_are_runs_and_those_that_train_alike_take_the_same_steps(table) -> None:  # type: ignore[no-untyped-def]
    runs = {job.name: job for job in jobs(DOMAINS, [], [0])}
    by_kind: dict[str, set[int]] = {}
    for row in table.rows:
        job = runs[row.run]
        assert job.steps > 0
        by_kind.setdefault(job.kind, set()).add(job.steps)
    assert all(len(steps) == 1 for steps in by_kind.values())
    assert table.rows[0].paper or "no table" in table.source, "the reference has the paper's number"


def test_the_numbers_are_those_of_the_tables() -> None:
    """Tables 7, 8 and 9, and the zero-shot, 1 % and fine-tuned ViT-B/16 of Tables 1 and 3 (val, COCO)."""
    tables = {table.name: table for table in comparisons(DOMAINS)}
    papers = {name: [row.paper for row in table.rows] for name, table in tables.items()}
    assert papers["scenes-objectives"][:4] == [
        {"vqa_tuned": 38.6, "cider": 58.3},
        {"vqa_tuned": 35.5, "cider": 55.7},
        {"vqa_tuned": 36.3, "cider": 54.1},
        {"vqa_tuned": 30.1, "cider": 48.6},
    ]
    assert papers["photos-masks"] == [{"cider": 61.1}, {"cider": 59.7}, {"cider": 60.6}, {"cider": 59.6}]
    assert papers["photos-size"] == [
        {"vqa_tuned": 38.6, "cider": 58.3},
        {"vqa_tuned": 38.3, "cider": 56.2},
        {"vqa_tuned": 33.8, "cider": 45.1},
    ]
    assert papers["photos-answers"] == [{"vqa": 38.6}, {"vqa": 50.6}, {"vqa": 69.3}]
    assert papers["photos-captions"] == [{"cider": 58.3}, {}, {"cider": 114.3}]
