"""What a person sees while a ladder runs, and whether the next run still fits the budget."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vlkd_training.paper.jobs import Job

__all__ = ["Watch"]


class Watch:
    """The bar over the runs that are to be done, and what of the budget is left.

    Args:
        console: where bar and lines go.
        jobs: to be done.
        budget_minutes: see :meth:`vlkd_training.paper.runner.Runner.run`.
        workers: see :meth:`vlkd_training.paper.runner.Runner.run`.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], budget_minutes: float | None, workers: int) -> None:
        self._console, self._budget, self._workers, self._count = console, budget_minutes, workers, len(jobs)
        self._seconds = {job.id: job.seconds for job in jobs}
        self._parts: dict[str, float] = {}
        self._ended: set[str] = set()
        self._began = time.monotonic()
        self._bar = _bar(console)
        self._task = self._bar.add_task("", total=sum(self._seconds.values()), runs=f"0/{self._count}")

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def may_start(self, job: Job) -> bool:
        """Whether a run would end within the budget, going by how long the others took; says so where not."""
        spent = time.monotonic() - self._began
        planned = sum(self._seconds[each] for each in self._ended)
        pace = max(1.0, spent * self._workers / planned) if planned else 1.0
        if self._budget is not None and spent + pace * job.seconds > 60 * self._budget:
            self._console.print(f"Stopped before {job.id}: the budget of {self._budget:g} minutes is used up.")
            return False
        self._parts[job.id] = 0.0
        self._show()
        return True

    def part(self, job_id: str, done: float) -> None:
        """So much of a run is done."""
        if job_id not in self._ended:
            self._parts[job_id] = done
            self._show()

    def ended(self, job: Job, line: str) -> None:
        """A run is done; ``line`` says what came of it."""
        self._parts[job.id] = 1.0
        self._ended.add(job.id)
        self._show()
        self._console.print(line, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        running = " ".join(each for each in self._parts if each not in self._ended)
        completed = sum(self._seconds[each] * done for each, done in self._parts.items())
        runs = f"{len(self._ended)}/{self._count}"
        self._bar.update(self._task, completed=completed, runs=runs, description=running or None)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[runs]} runs, left"),
        TimeRemainingColumn(),
    )
    # Not redirected: what a run prints goes to its log, and the bar to the terminal that the console was made for.
    return Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False, speed_estimate_period=900)
