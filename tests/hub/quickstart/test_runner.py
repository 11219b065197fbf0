"""A stopped quickstart goes on where it stopped, and never counts stale output as done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from rich.console import Console

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.quickstart import runner as module
from vlkd_hub.quickstart.plan import Step
from vlkd_hub.quickstart.runner import Runner


@pytest.fixture
def made(tmp_path: Path, monkeypatch) -> list[str]:
    """Replace the child process by one that writes the step's outputs; gives the names of the steps that ran."""
    ran: list[str] = []

    def child(self: Runner, step: Step, extra: tuple[str, ...]) -> int:
        ran.append(step.name)
        for path in step.outputs:
            assert not path.exists(), "the runner clears old output first"
            path.mkdir() if path.suffix == "" else path.write_text("{}")
        return 0

    monkeypatch.setattr(Runner, "_child", child)
    return ran


def steps(folder: Path, size: str = "1") -> list[Step]:
    """data -> model -> report, where data also feeds report."""

    def step(name: str, needs: tuple[str, ...], *args: str) -> Step:
        output = folder / (f"{name}.json" if name == "report" else name)
        return Step(name=name, title=name, args=(name, *args), needs=needs, outputs=(output,))

    return [step("data", (), "--size", size), step("model", ("data",)), step("report", ("model", "data"))]


def run(folder: Path, plan: list[Step]) -> list[float]:
    runner = Runner(folder, Console(quiet=True))
    return [runner.run(step) for step in plan]


def test_second_call_runs_nothing_and_gives_the_same_seconds(tmp_path: Path, made: list[str]) -> None:
    folder = tmp_path / "work"
    first = run(folder, steps(folder))
    assert made == ["data", "model", "report"]
    assert run(folder, steps(folder)) == first
    assert made == ["data", "model", "report"]


def test_a_changed_command_runs_again_with_all_that_builds_on_it(tmp_path: Path, made: list[str]) -> None:
    """The later lines are the same text, but what they read is new."""
    folder = tmp_path / "work"
    run(folder, steps(folder))
    made.clear()
    run(folder, steps(folder, size="2"))
    assert made == ["data", "model", "report"]


def test_a_new_version_runs_everything_again(tmp_path: Path, made: list[str], monkeypatch) -> None:
    folder = tmp_path / "work"
    run(folder, steps(folder))
    made.clear()
    monkeypatch.setattr(module, "__version__", "99")
    run(folder, steps(folder))
    assert made == ["data", "model", "report"]


def test_lost_output_is_made_again_with_all_that_builds_on_it(tmp_path: Path, made: list[str]) -> None:
    folder = tmp_path / "work"
    run(folder, steps(folder))
    made.clear()
    (folder / "model").rmdir()
    run(folder, steps(folder))
    assert made == ["model", "report"]


def test_forget_runs_everything_again(tmp_path: Path, made: list[str]) -> None:
    folder = tmp_path / "work"
    run(folder, steps(folder))
    made.clear()
    Runner(folder, Console(quiet=True)).forget(steps(folder))
    assert not (folder / "data").exists()
    run(folder, steps(folder))
    assert made == ["data", "model", "report"]


def test_a_failed_step_stops_with_its_code_and_is_not_done(
    tmp_path: Path, made: list[str], monkeypatch, capsys
) -> None:
    """What came before is kept; the failed step runs again."""
    folder = tmp_path / "work"
    plan = steps(folder)
    good = Runner._child
    monkeypatch.setattr(
        Runner, "_child", lambda self, step, extra: 7 if step.name == "model" else good(self, step, extra)
    )
    runner = Runner(folder, Console(width=300))
    runner.run(plan[0])
    with pytest.raises(typer.Exit) as stopped:
        runner.run(plan[1])
    assert stopped.value.exit_code == 7
    assert f"vlkd quickstart --dir {folder}" in capsys.readouterr().out
    monkeypatch.setattr(Runner, "_child", good)
    made.clear()
    run(folder, plan)
    assert made == ["model", "report"]


def test_an_interrupted_training_step_goes_on_inside(tmp_path: Path, monkeypatch) -> None:
    """Its half-made output is kept and the verb is told to resume; a changed command starts over."""
    folder, calls = tmp_path / "work", []

    def dies(self: Runner, step: Step, extra: tuple[str, ...]) -> int:
        left = step.outputs[0] / "checkpoint"
        calls.append((extra, left.exists()))
        left.mkdir(parents=True, exist_ok=True)
        return 0 if len(calls) == 4 else 130

    def train(seed: str) -> Step:
        args = ("train", "--seed", seed)
        return Step(name="train", title="", args=args, needs=(), outputs=(folder / "out",), resumes=True)

    monkeypatch.setattr(Runner, "_child", dies)
    for seed in ("0", "0", "1"):
        with pytest.raises(typer.Exit):
            run(folder, [train(seed)])
    run(folder, [train("1")])
    run(folder, [train("1")])
    assert calls == [((), False), (("--resume",), True), ((), False), (("--resume",), True)]


def test_a_step_that_wrote_nothing_is_a_failure(tmp_path: Path, monkeypatch, capsys) -> None:
    """Exit code 0 with no output would fail one step later, where nobody knows why."""
    monkeypatch.setattr(Runner, "_child", lambda self, step, extra: 0)
    folder = tmp_path / "work"
    with pytest.raises(typer.Exit) as stopped:
        Runner(folder, Console(width=300)).run(steps(folder)[0])
    assert stopped.value.exit_code == 1
    assert "did not write" in capsys.readouterr().out


def test_a_damaged_marker_is_no_marker(tmp_path: Path, made: list[str]) -> None:
    folder = tmp_path / "work"
    run(folder, steps(folder))
    made.clear()
    (folder / ".done" / "report.json").write_text("{")
    run(folder, steps(folder))
    assert made == ["report"]


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    """The runner deletes what it writes over, so it must not be pointed at a person's own folder."""
    (tmp_path / "data").mkdir()
    with pytest.raises(InvalidInputError, match="holds files that no quickstart made"):
        Runner(tmp_path, Console(quiet=True))
    assert (tmp_path / "data").is_dir()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InvalidInputError, match="is a file"):
        Runner(file, Console(quiet=True))


def test_the_child_is_the_real_command_and_its_line_is_shown(tmp_path: Path, capfd) -> None:
    """No fake here: the line printed is the one run, and the child's own output comes through."""
    folder = tmp_path / "work"
    step = Step(name="look", title="", args=("doctor", "--json"), needs=(), outputs=())
    seconds = Runner(folder, Console()).run(step)
    shown = capfd.readouterr().out
    line, _, rest = shown.partition("\n")
    assert line == "$ vlkd doctor --json"
    assert json.loads(rest)["version"]
    assert 0 < seconds < 60


def test_what_a_step_prints_can_go_to_a_file(tmp_path: Path, capfd) -> None:
    """The line shown says so, as a shell would take it."""
    folder = tmp_path / "work"
    report = folder / "report.json"
    step = Step(name="look", title="", args=("doctor", "--json"), needs=(), outputs=(report,), stdout=report)
    Runner(folder, Console(width=300)).run(step)
    assert capfd.readouterr().out == f"$ vlkd doctor --json > {report}\n"
    assert json.loads(report.read_text())["version"]


def test_a_real_child_that_fails_gives_its_code(tmp_path: Path, capfd) -> None:
    step = Step(name="look", title="", args=("doctr",), needs=(), outputs=())
    with pytest.raises(typer.Exit) as stopped:
        Runner(tmp_path / "work", Console()).run(step)
    assert stopped.value.exit_code == 2
    assert "Did you mean 'doctor'" in capfd.readouterr().err
