"""The ``quickstart`` verb: plan, run, answer, report."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vlkd_hub._version import __version__
from vlkd_hub.quickstart import report
from vlkd_hub.quickstart.answers import Answers, ask
from vlkd_hub.quickstart.plan import QUERY, plan
from vlkd_hub.quickstart.runner import Runner
from vlkd_hub.reports import write_report

__all__ = ["quickstart"]

REPORTS = ("teacher", "student", "export", "bench", "search")


def quickstart(
    folder: Annotated[Path, typer.Option("--dir", help="Work folder; kept, so that a second call goes on.")] = Path(
        ".quickstart"
    ),
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the demo page at the end.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every figure to this file.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do every step again.")] = False,
) -> None:
    """Distil, evaluate, export, index, search and ask, on made-up scenes, with no download.

    Every step is an ordinary vlkd command line, printed before it runs.
    """
    console = Console()
    steps = plan(folder)
    runner = Runner(folder, console)
    if fresh:
        runner.forget(steps)
    seconds = {}
    for number, step in enumerate(steps, start=1):
        console.print(f"\n[bold cyan]{number}/{len(steps)}[/] {step.title}")
        seconds[step.name] = runner.run(step)
    answers = ask(folder / "bundle", folder / "data" / "test")
    reports = report.load(folder, REPORTS)
    _show(console, folder, answers, reports, seconds)
    if json_path is not None:
        _write(json_path, answers, reports, seconds)
    demo = ["demo", "--model", str(folder / "bundle"), "--index", str(folder / "index"), "--open"]
    if serve and sys.stdin.isatty():
        raise typer.Exit(subprocess.call([sys.executable, "-m", "vlkd_hub.cli", *demo]))


def _show(console: Console, folder: Path, answers: Answers, reports: dict[str, Any], seconds: dict[str, float]) -> None:
    console.print(f"\n[bold]Picture[/] {answers.picture}")
    console.print(f"  caption:  {answers.caption}   (one of its own: {answers.reference})", markup=False)
    console.print(f"  question: {answers.question}   answer: {answers.answer}   (true: {answers.truth})", markup=False)
    console.print(report.search_table(QUERY, reports["search"]))
    console.print(report.quality_table(reports["teacher"], reports["student"]))
    console.print(report.speed_table(reports))
    console.print(report.seconds_table(seconds))
    bundle, index = shlex.quote(str(folder / "bundle")), shlex.quote(str(folder / "index"))
    console.print("\n[bold]Open the page:[/]")
    console.print(f"  vlkd demo --model {bundle} --index {index}", soft_wrap=True, highlight=False)
    console.print("[bold]Or serve it over HTTP:[/]")
    console.print(f"  vlkd serve --model {bundle} --index {index}", soft_wrap=True, highlight=False)


def _write(path: Path, answers: Answers, reports: dict[str, Any], seconds: dict[str, float]) -> None:
    facts = {
        "version": __version__,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "seconds": seconds,
        "total_seconds": sum(seconds.values()),
        "answers": asdict(answers),
        **reports,
    }
    write_report(path, facts)
