"""Trains the toy student in child processes that are killed while they save; run by test_kill_during_save.py.

Usage: kill_worker.py STUDENT OUTPUT POINT...   where POINT is weights, listed, renamed, or a number of milliseconds.
Prints one JSON line a kill: which checkpoint was picked, and whether the resumed run ended as the unbroken one did.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.toy import Queue, Rows, make_trainer, noisy, run_state

from vlkd_training import checkpoints, resume

SAVES, STEPS, KILLED_SAVE = 2, 8, 4
"""A checkpoint every 2 of 8 steps; the process dies while it saves step 4."""


def in_child(work: Callable[[], Any]) -> tuple[int, int]:
    """Fork and run; returns the child's pid and the pipe it writes to. The parent never trains, so forking is safe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            work_result = work(writing)
            os.write(writing, json.dumps(work_result).encode())
        except BaseException as error:  # the parent sees it as a missing answer
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    return pid, reading


def answer(child: tuple[int, int]) -> Any:
    pid, reading = child
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(said) if said else None


def train(student: str, output: Path, point: str | None, writing: int) -> dict[str, Any]:
    """Train to the end; with a point, die there."""
    torch.set_num_threads(1)
    options: dict[str, Any] = {
        "max_steps": STEPS,
        "save_strategy": "steps",
        "save_steps": SAVES,
        "collator": noisy,
        "rows": Rows(),
    }
    options["save_total_limit"] = 1  # as recipes that save by the clock: the one before goes when the new one is there
    trainer = make_trainer(Path(student), output, method=Queue(), **options)
    found = checkpoints.last_checkpoint(output)
    if point is not None:
        arm(trainer, point, writing)
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    digest = hashlib.sha256()
    for name, value in sorted(run_state(trainer).items()):
        text = "" if isinstance(value, torch.Tensor) else json.dumps(value, sort_keys=True)
        digest.update(name.encode() + (text.encode() or value.numpy().tobytes()))
    return {"picked": found.name if found else None, "digest": digest.hexdigest()}


def arm(trainer: Any, point: str, writing: int) -> None:
    """Die at a point of the save of step 4: half of the weights written, all files listed, or just before the name."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    save, place = trainer._save_checkpoint, trainer._save_position

    def timed(*args: Any, **kwargs: Any) -> None:
        if trainer.state.global_step == KILLED_SAVE and point.isdigit():
            os.write(writing, b"!")  # the parent kills some milliseconds from now
        save(*args, **kwargs)

    def halved(folder: Path) -> None:
        if trainer.state.global_step == KILLED_SAVE and point == "weights":
            weights = folder / "model.safetensors"
            os.truncate(weights, weights.stat().st_size // 2)
            die()
        place(folder)

    trainer._save_checkpoint, trainer._save_position = timed, halved
    if point == "listed":
        flush = checkpoints._flush
        checkpoints._flush = lambda path: die() if trainer.state.global_step == KILLED_SAVE else flush(path)
    if point == "renamed":
        commit = checkpoints.commit

        def unnamed(folder: Path, target: Path) -> None:
            if trainer.state.global_step == KILLED_SAVE:
                type(folder).rename = lambda self, to: die()  # type: ignore[method-assign]
            commit(folder, target)

        resume.commit = unnamed


def main(student: str, output: str, *points: str) -> None:
    unbroken = answer(in_child(lambda pipe: train(student, Path(output) / "unbroken", None, pipe)))
    for number, point in enumerate(points):
        folder = Path(output) / f"killed-{number}"
        pid, reading = in_child(lambda pipe, f=folder, p=point: train(student, f, p, pipe))
        if point.isdigit():
            os.read(reading, 1)
            time.sleep(int(point) / 1000)
            os.kill(pid, signal.SIGKILL)
        os.close(reading) if point.isdigit() else answer((pid, reading))
        if point.isdigit():
            os.waitpid(pid, 0)
        left = sorted(path.name for path in folder.glob("checkpoint-*"))
        resumed = answer(in_child(lambda pipe, f=folder: train(student, f, None, pipe)))
        same = resumed is not None and resumed["digest"] == unbroken["digest"]
        print(json.dumps({"point": point, "left": left, "picked": (resumed or {}).get("picked"), "same": same}))


if __name__ == "__main__":
    main(*sys.argv[1:])
