"""A ladder goes on where it stopped, does nothing twice, and never takes another setting's result for its own."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import sys
from pathlib import Path

import pytest
from rich.console import Console

from vlkd_hub.errors import InvalidInputError, RecipeError, VlkdError
from vlkd_training.cli import bench_paper
from vlkd_training.paper.runner import Runner, choose

sys.path.append(str(Path(__file__).parent))  # for the workers too, which take it over
fake = importlib.import_module("fake_ladder")


def runner(ladder: object, work: Path) -> Runner:
    return Runner(ladder, work, Console(file=io.StringIO()))  # type: ignore[arg-type]


def test_every_finished_run_is_kept_and_done_once(tmp_path: Path) -> None:
    ladder = fake.FakeLadder()
    assert runner(ladder, tmp_path).run(ladder.jobs([0, 1])) == 0
    assert ladder.done == ["base@0", "left@0", "right@0", "base@1", "left@1", "right@1"]
    kept = json.loads((tmp_path / "runs" / "left@1.json").read_text())
    assert kept["scores"]["score"] == 9.0 and kept["seed"] == 1 and kept["steps"] == 3
    assert runner(ladder, tmp_path).run(ladder.jobs([0, 1])) == 0
    assert len(ladder.done) == 6
    assert not list((tmp_path / "unfinished").iterdir())
    assert "a line of a run" in (tmp_path / "logs" / "left@1.txt").read_text()


def test_a_broken_run_goes_on_in_the_folder_that_it_left(tmp_path: Path) -> None:
    ladder = fake.FakeLadder()
    ladder.break_at = "left@0"
    with pytest.raises(KeyboardInterrupt):
        runner(ladder, tmp_path).run(ladder.jobs([0]))
    assert ladder.done == ["base@0"] and not (tmp_path / "runs" / "left@0.json").exists()
    broken = ladder.folders[-1]
    assert (broken / "checkpoint").read_text() == "half"
    assert runner(ladder, tmp_path).run(ladder.jobs([0])) == 0
    assert ladder.done == ["base@0", "left@0", "right@0"]
    assert ladder.folders[2] == broken and not broken.exists()


def test_what_another_setting_left_is_not_gone_on_with(tmp_path: Path) -> None:
    """An unfinished run of other facts has another folder; a finished one is refused by name."""
    ladder = fake.FakeLadder()
    ladder.break_at = "base@0"
    with pytest.raises(KeyboardInterrupt):
        runner(ladder, tmp_path).run(ladder.jobs([0]))
    ladder.setting, ladder.break_at = 2, ""
    runner(ladder, tmp_path).run(ladder.jobs([0]))
    assert ladder.folders[0] != ladder.folders[1]
    ladder.setting = 3
    with pytest.raises(RecipeError, match=r"base@0.json was made with another setting. Delete it"):
        runner(ladder, tmp_path).run(ladder.jobs([0]))


def test_no_run_is_started_that_would_not_fit_the_budget(tmp_path: Path) -> None:
    """Runs are said to take a minute each: a budget below that starts none, one above it does the first ones."""
    ladder = fake.FakeLadder()
    assert runner(ladder, tmp_path).run(ladder.jobs([0]), budget_minutes=0.5) == 3
    assert ladder.done == []
    assert runner(ladder, tmp_path).run(ladder.jobs([0]), budget_minutes=1.5) == 0
    assert len(ladder.done) == 3


def test_workers_do_runs_at_the_same_time_each_after_its_start(tmp_path: Path) -> None:
    """``left`` and ``right`` only end if both run, and only begin where ``base`` is kept; results are the same."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    ladder, out = fake.MeetingLadder(meeting), io.StringIO()
    jobs = ladder.jobs([0, 1])
    assert Runner(ladder, tmp_path, Console(file=out)).run(jobs, workers=2) == 0
    assert "right@1: score 13.0" in out.getvalue() and "6/6 runs" in out.getvalue()
    assert runner(fake.FakeLadder(), tmp_path / "alone").run(jobs) == 0
    for job in jobs:
        kept, alone = (
            json.loads((work / "runs" / f"{job.slug}.json").read_text()) for work in (tmp_path, tmp_path / "alone")
        )
        assert {name: kept[name] for name in ("scores", "losses", "facts")} == {
            name: alone[name] for name in ("scores", "losses", "facts")
        }
    assert "a line of a run" in (tmp_path / "logs" / "left@1.txt").read_text()
    assert runner(ladder, tmp_path).run(jobs, budget_minutes=0.5, workers=2) == 0


def test_workers_keep_the_budget(tmp_path: Path) -> None:
    ladder = fake.MeetingLadder(tmp_path)
    assert runner(ladder, tmp_path).run(ladder.jobs([0]), budget_minutes=0.5, workers=2) == 3
    assert not (tmp_path / "runs").exists()


def test_a_worker_that_dies_costs_its_own_run(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    dying = fake.MeetingLadder(meeting, dies="base@1")
    with pytest.raises(VlkdError, match=r"A worker died.*the same line goes on, with fewer --workers"):
        runner(dying, tmp_path).run(dying.jobs([0, 1]), workers=2)
    failing = fake.MeetingLadder(meeting, fails="base@1")
    with pytest.raises(ValueError, match="a run that fails"):
        runner(failing, tmp_path).run(failing.jobs([0, 1]), workers=2)
    whole = fake.MeetingLadder(meeting)
    assert runner(whole, tmp_path).run(whole.jobs([0, 1]), workers=2) == 0


@pytest.mark.parametrize("name", ["smke", "vlkd"])
def test_the_real_ladders_go_to_workers(name: str, tmp_path: Path) -> None:
    """Pickled with their settings, and with nothing that they have read."""
    ladder = bench_paper._ladder(name, tmp_path, {"scenes": "scenes:4"}, {})
    sent = pickle.dumps(ladder)
    assert len(sent) < 10_000
    assert pickle.loads(sent).jobs([0, 1]) == ladder.jobs([0, 1])


def test_only_keeps_what_it_names_and_what_that_starts_from() -> None:
    jobs = fake.FakeLadder().jobs([0, 1])
    assert [job.id for job in choose(jobs, ["left"])] == ["base@0", "left@0", "base@1", "left@1"]
    assert [job.id for job in choose(jobs, ["r*", "base"])] == ["base@0", "right@0", "base@1", "right@1"]
    assert choose(jobs, []) == jobs
    with pytest.raises(InvalidInputError, match=r"no run 'lefd'. Did you mean 'left'"):
        choose(jobs, ["lefd"])


def test_the_plan_tells_what_is_left(tmp_path: Path) -> None:
    ladder = fake.FakeLadder()
    runner(ladder, tmp_path).run(ladder.jobs([0]))
    table = runner(ladder, tmp_path).plan(ladder.jobs([0, 1]))
    assert table.row_count == 6
    assert "6 runs, 3 to do, 3 minutes" in str(table.title)
