"""The quickstart types lines that a person could type, and each step is fed by the ones before it."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from vlkd_hub._commands import EntryPointGroup
from vlkd_hub.bench import BenchGroup
from vlkd_hub.cli import RootGroup
from vlkd_hub.quickstart.plan import Step, plan

STEPS = plan(Path("WORK"))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_line_is_one_that_its_verb_accepts(step: Step, tmp_path, monkeypatch) -> None:
    """A renamed option must fail here, not seven minutes into somebody's first run."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/test", "teacher", "distilled", "student", "bundle", "index"):
        (tmp_path / "WORK" / name).mkdir(parents=True)  # for options that must exist
    verb, *rest = step.args
    group: EntryPointGroup = RootGroup()
    if verb == "bench":
        group, verb, rest = BenchGroup(), rest[0], rest[1:]
    command = group.load(verb)
    if hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    assert command.make_context(verb, list(rest)).params


def test_verbs_exist() -> None:
    names = {point.name for point in entry_points(group="vlkd.commands")}
    assert {step.args[0] for step in STEPS} <= names


def test_each_step_needs_only_what_came_before() -> None:
    """The order of the list is the order they run in."""
    seen: set[str] = set()
    for step in STEPS:
        assert set(step.needs) <= seen
        seen.add(step.name)
    assert len(seen) == len(STEPS)


def test_what_a_step_reads_is_written_by_a_step_it_needs() -> None:
    """Otherwise a second call could skip a step whose input has changed."""
    made_by = {path: step.name for step in STEPS for path in step.outputs}
    for step in STEPS:
        read = [Path(word) for word in step.args if word.startswith("WORK/")]
        sources = {made_by[path if path in made_by else path.parent] for path in read}
        assert sources - {step.name} == set(step.needs)


def test_outputs_stay_in_the_work_folder() -> None:
    """The runner deletes outputs before it runs a step."""
    assert all(path.is_relative_to("WORK") and path != Path("WORK") for step in STEPS for path in step.outputs)
