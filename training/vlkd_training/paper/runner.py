"""Does the runs of a ladder one after another; a second call goes on where the first one stopped."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vlkd_hub.errors import InvalidInputError, RecipeError
from vlkd_hub.reports import write_report
from vlkd_training.cache import fingerprint
from vlkd_training.paper.jobs import Job, Ladder
from vlkd_training.paper.results import result_file
from vlkd_training.recipe import suggestion

__all__ = ["Runner", "choose"]

_CHANGED = "{file} was made with another {what}. Delete it to do this run again, or give another --work."


def choose(jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
    """Keep the runs whose name fits one of ``only``, and those that they start from.

    Args:
        jobs: every run of a ladder, each after those that it starts from.
        only: names, with ``*`` for any text; none keeps all.

    Raises:
        InvalidInputError: a name fits no run; the nearest is named.
    """
    names = {job.name for job in jobs}
    for pattern in only:
        if not fnmatch.filter(names, pattern):
            raise InvalidInputError(f"--only: there is no run {pattern!r}.{suggestion(pattern, names)}")
    wanted = {job.id for job in jobs if not only or any(fnmatch.fnmatch(job.name, pattern) for pattern in only)}
    for job in reversed(jobs):
        if job.id in wanted:
            wanted |= set(job.after)
    return [job for job in jobs if job.id in wanted]


class Runner:
    """Runs of one ladder in one work folder.

    Args:
        ladder: what to run.
        work: ``runs/`` holds a JSON file a finished run, ``unfinished/`` what an interrupted one left, ``logs/`` what
            the runs printed.
        console: where the plan, the bar and a line a run go.
    """

    def __init__(self, ladder: Ladder, work: Path, console: Console) -> None:
        self.ladder, self.work, self.console = ladder, work, console

    def pending(self, jobs: Iterable[Job]) -> list[Job]:
        """Runs that are not finished yet, in order."""
        return [job for job in jobs if not result_file(self.work, job).is_file()]

    def plan(self, jobs: Sequence[Job]) -> Table:
        """Every run with its budget and time, done ones marked."""
        open_jobs = self.pending(jobs)
        left = sum(job.seconds for job in open_jobs)
        table = Table(title=f"{self.ladder.title}: {len(jobs)} runs, {len(open_jobs)} to do, {_minutes(left)}")
        table.add_column("run")
        for head in ("seed", "steps", "seconds", "done"):
            table.add_column(head, justify="right")
        waiting = {job.id for job in open_jobs}
        for job in jobs:
            done = "" if job.id in waiting else "yes"
            table.add_row(job.name, str(job.seed), str(job.steps), f"{job.seconds:.0f}", done)
        return table

    def run(self, jobs: Sequence[Job], budget_minutes: float | None = None) -> int:
        """Do what is not done.

        Args:
            jobs: in order, each after those that it starts from.
            budget_minutes: start no run that would end later than this, going by how long the runs before it took.

        Returns:
            Number of runs that are left.

        Raises:
            RecipeError: a finished run has other facts than it would have now.
        """
        for job in jobs:
            self._check(job)
        waiting, began = self.pending(jobs), time.monotonic()
        planned, pace = 0.0, 1.0
        with _bar(self.console) as bar:
            task = bar.add_task("", total=sum(job.seconds for job in waiting), runs=f"0/{len(waiting)}")
            for number, job in enumerate(waiting):
                spent = time.monotonic() - began
                if budget_minutes is not None and spent + pace * job.seconds > 60 * budget_minutes:
                    self.console.print(f"Stopped before {job.id}: the budget of {budget_minutes:g} minutes is used up.")
                    return len(waiting) - number
                bar.update(task, description=job.id, runs=f"{number}/{len(waiting)}")
                at, length = planned, job.seconds
                self._one(job, lambda part, at=at, length=length: bar.update(task, completed=at + part * length))
                planned += job.seconds
                pace = max(1.0, (time.monotonic() - began) / planned)
                bar.update(task, completed=planned, runs=f"{number + 1}/{len(waiting)}")
        return 0

    def _check(self, job: Job) -> None:
        file = result_file(self.work, job)
        if not file.is_file():
            return
        before, now = json.loads(file.read_text(encoding="utf-8")).get("facts", {}), self._facts(job)
        changed = sorted(name for name in now if before.get(name) != now[name])
        if changed:
            raise RecipeError(_CHANGED.format(file=file, what=", ".join(changed)))

    def _facts(self, job: Job) -> dict[str, str]:
        own = {"steps": job.steps, "changes": job.changes}
        return {name: fingerprint({name: value}) for name, value in (own | self.ladder.facts(job)).items()}

    def _one(self, job: Job, tell: Any) -> None:
        """Do one run and write its file; what it prints goes to its log."""
        facts = self._facts(job)
        folder = self.work / "unfinished" / f"{job.slug}-{fingerprint(facts)}"
        log = self.work / "logs" / f"{job.slug}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        began, load = time.monotonic(), os.getloadavg()[0]
        with log.open("a", encoding="utf-8") as text:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                found = self.ladder.run(job, folder, tell)
        seconds = time.monotonic() - began
        run = {
            "name": job.name,
            "seed": job.seed,
            "kind": job.kind,
            "data": job.data,
            "steps": job.steps,
            "changes": job.changes,
            "facts": facts,
            "seconds": round(seconds, 1),
            "load": round(load, 1),
        }
        write_report(result_file(self.work, job), run | found)
        shutil.rmtree(folder, ignore_errors=True)
        names = [name for name in found["scores"] if ":" not in name and not name.startswith("unseen_")]
        shown = ", ".join(f"{name} {found['scores'][name]:.1f}" for name in names)
        self.console.print(f"{job.id}: {shown or 'done'} ({seconds:.0f} s)", highlight=False, soft_wrap=True)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[runs]} runs, left"),
        TimeRemainingColumn(),
    )
    # Not redirected: what a run prints goes to its log, and the bar to the terminal that the console was made for.
    return Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False, speed_estimate_period=900)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes on two quiet cores" if seconds >= 60 else f"{seconds:.0f} seconds"
