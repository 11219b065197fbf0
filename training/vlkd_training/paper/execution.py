"""Does one run of a ladder and keeps its result, in this process or in one of several workers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from vlkd_hub.errors import VlkdError
from vlkd_hub.reports import write_report
from vlkd_training.cache import fingerprint
from vlkd_training.paper.jobs import Job, Ladder, Tell
from vlkd_training.paper.results import result_file
from vlkd_training.paper.watch import Watch

__all__ = ["do_run", "do_side_by_side", "facts_of"]

_POLL_S = 1.0

_here: tuple[Ladder, Path, Any]
"""In a worker: its ladder, the work folder, and the queue that is told how far its run is."""


def facts_of(ladder: Ladder, job: Job) -> dict[str, str]:
    """A fingerprint of each thing that the result of a run depends on."""
    own = {"steps": job.steps, "changes": job.changes}
    return {name: fingerprint({name: value}) for name, value in (own | ladder.facts(job)).items()}


def do_run(ladder: Ladder, work: Path, job: Job, tell: Tell) -> str:
    """Do one run and write its file; what it prints goes to its log.

    Args:
        ladder: that it is of.
        work: see :class:`vlkd_training.paper.runner.Runner`.
        job: what to do.
        tell: called with the part that is done.

    Returns:
        Its scores in a line.
    """
    facts = facts_of(ladder, job)
    folder = work / "unfinished" / f"{job.slug}-{fingerprint(facts)}"
    log = work / "logs" / f"{job.slug}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    began, load = time.monotonic(), os.getloadavg()[0]
    with log.open("a", encoding="utf-8") as text:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            found = ladder.run(job, folder, tell)
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
    write_report(result_file(work, job), run | found)
    shutil.rmtree(folder, ignore_errors=True)
    names = [name for name in found["scores"] if ":" not in name and not name.startswith("unseen_")]
    shown = ", ".join(f"{name} {found['scores'][name]:.1f}" for name in names)
    return f"{job.id}: {shown or 'done'} ({seconds:.0f} s)"


def do_side_by_side(
    ladder: Ladder,
    work: Path,
    jobs: Sequence[Job],
    workers: int,
    watch: Watch,
) -> int:
    """Do runs in processes, each with its part of the processors; a run waits for those that it starts from.

    A step of a small student does not fill two cores: two runs with one core each end sooner than one after the other.

    Args:
        ladder: pickled into every worker.
        work: see :class:`vlkd_training.paper.runner.Runner`.
        jobs: none of them finished, in order.
        workers: how many processes.
        watch: asked before each run, and after its first no none is started; told what is done.

    Returns:
        Number of runs that were not started.

    Raises:
        VlkdError: a worker died.
        Exception: what a run raised. The other workers are stopped; their runs go on where they are, next time.
    """
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    threads = max(1, (os.cpu_count() or 1) // workers)
    left, unfinished = list(jobs), {job.id for job in jobs}
    running: dict[Future[str], Job] = {}
    pool = ProcessPoolExecutor(workers, context, _prepare, (ladder, work, told, threads))
    try:
        more = True
        while running or (left and more):
            ready = [job for job in left if unfinished.isdisjoint(job.after)][: workers - len(running)] if more else []
            for job in ready:
                more = watch.may_start(job)
                if not more:
                    break
                left.remove(job)
                running[pool.submit(_work, job)] = job
            finished, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            while not told.empty():
                watch.part(*told.get())
            for future in finished:
                job = running.pop(future)
                line = future.result()
                unfinished.discard(job.id)
                watch.ended(job, line)
    except BrokenProcessPool as error:
        raise VlkdError(
            f"A worker died, perhaps for want of memory: {workers} runs were side by side. What is finished is kept; "
            "the same line goes on, with fewer --workers."
        ) from error
    finally:
        if running:
            for process in multiprocessing.active_children():
                process.terminate()
        pool.shutdown(cancel_futures=True)
    return len(left)


def _prepare(ladder: Ladder, work: Path, told: Any, threads: int) -> None:
    import torch

    global _here
    _here = ladder, work, told
    torch.set_num_threads(threads)


def _work(job: Job) -> str:
    ladder, work, told = _here
    return do_run(ladder, work, job, lambda done: told.put((job.id, done)))
