"""Does the runs of a ladder, one after another or side by side; a second call goes on where the first one stopped."""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vlkd_hub.errors import InvalidInputError, RecipeError
from vlkd_training.paper.execution import do_run, do_side_by_side, facts_of
from vlkd_training.paper.jobs import Job, Ladder
from vlkd_training.paper.results import result_file
from vlkd_training.paper.watch import Watch
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

    def run(self, jobs: Sequence[Job], budget_minutes: float | None = None, workers: int = 1) -> int:
        """Do what is not done.

        Args:
            jobs: in order, each after those that it starts from.
            budget_minutes: start no run that would end later than this, going by how long the runs before it took.
            workers: runs side by side, each in a process of its own; 1: one after another, in this one.

        Returns:
            Number of runs that are left.

        Raises:
            RecipeError: a finished run has other facts than it would have now.
            VlkdError: a worker died.
        """
        for job in jobs:
            self._check(job)
        waiting = self.pending(jobs)
        with Watch(self.console, waiting, budget_minutes, workers) as watch:
            if workers > 1:
                return do_side_by_side(self.ladder, self.work, waiting, workers, watch)
            for number, job in enumerate(waiting):
                if not watch.may_start(job):
                    return len(waiting) - number
                watch.ended(job, do_run(self.ladder, self.work, job, functools.partial(watch.part, job.id)))
        return 0

    def _check(self, job: Job) -> None:
        file = result_file(self.work, job)
        if not file.is_file():
            return
        before, now = json.loads(file.read_text(encoding="utf-8")).get("facts", {}), facts_of(self.ladder, job)
        changed = sorted(name for name in now if before.get(name) != now[name])
        if changed:
            raise RecipeError(_CHANGED.format(file=file, what=", ".join(changed)))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes on two quiet cores" if seconds >= 60 else f"{seconds:.0f} seconds"
