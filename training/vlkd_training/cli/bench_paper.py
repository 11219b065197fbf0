"""``vlkd bench paper``: the comparisons of a paper, in small, resumable, reported beside its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vlkd_hub.errors import InvalidInputError

__all__ = ["paper"]


def paper(
    name: Annotated[str, typer.Argument(help="Which paper: vlkd or smke.")],
    work: Annotated[Path | None, typer.Option(help="Folder of finished runs, weights, features; .paper/NAME.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Data set by name, NAME=WHERE; for vlkd: scenes, photos, questions; for smke: scenes, photos."
        ),
    ] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="Aligned teacher of a data set, NAME=FOLDER; made first where left out.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of every run.")] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="Only these runs and those that they start from; * stands for any text.")
    ] = None,
    budget_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Start no run that would end later than this.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Runs side by side, each in a process with its part of the processors.")
    ] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Print the runs with their time, and stop.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write the tables and curves of the finished runs there (Markdown), and stop.")
    ] = None,
) -> None:
    """Run a paper's comparisons. The same line again goes on where it stopped."""
    from vlkd_training.paper.report import write_markdown
    from vlkd_training.paper.results import Results
    from vlkd_training.paper.runner import Runner, choose

    folder = work or Path(".paper") / name
    console = Console(stderr=True)
    ladder = _ladder(name, folder, _pairs("--data", data), _pairs("--teacher", teacher))
    if report is not None:
        write_markdown(report, ladder, Results.read(folder))
        typer.echo(f"Report written to {report}")
        return
    runner = Runner(ladder, folder, console)
    jobs = choose(ladder.jobs(range(seeds)), only or [])
    if plan:
        Console().print(runner.plan(jobs))
        return
    left = runner.pending(jobs)
    minutes = sum(job.seconds for job in left) / 60
    console.print(
        f"{len(left)} of {len(jobs)} runs to do, about {minutes:.0f} minutes on two quiet cores, one after another."
    )
    remaining = runner.run(jobs, budget_minutes, workers)
    if remaining:
        typer.echo(f"{remaining} runs are left; the same line goes on with them.")
        return
    typer.echo(f"All runs are done. Report: vlkd bench paper {name} --work {folder} ... --report FILE.md")


def _ladder(name: str, work: Path, data: dict[str, str], teachers: dict[str, str]) -> Any:
    """The ladder of a paper.

    Raises:
        InvalidInputError: there is none of that name.
    """
    from vlkd_training.paper.smke import SmkeLadder
    from vlkd_training.paper.vlkd import VlkdLadder
    from vlkd_training.recipe import suggestion

    ladders: dict[str, Any] = {"smke": SmkeLadder, "vlkd": VlkdLadder}
    if name not in ladders:
        raise InvalidInputError(f"There is no ladder for the paper {name!r}.{suggestion(name, ladders)}")
    return ladders[name](work, data or {"scenes": "scenes:4000"}, teachers)


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values or []:
        key, separator, where = value.partition("=")
        if not separator or not key or not where:
            raise InvalidInputError(
                f"{option} takes NAME=WHERE, for example {option} scenes=scenes:4000; got {value!r}."
            )
        if key in found:
            raise InvalidInputError(f"{option} names {key!r} twice.")
        found[key] = where
    return found
