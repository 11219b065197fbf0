"""Writes splits of scenes to disk as image folders: in parallel, resumable, each split whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_training.data.scenes.examples import file_name, make_example
from vlkd_training.data.scenes.vocabulary import SPLITS
from vlkd_training.data.scenes.world import GENERATOR_VERSION

__all__ = ["SplitPlan", "write_split"]

_CHUNK = 200
"""Pictures a unit of work: what an interrupted run can lose per worker."""
_PLAN_FILE = ".scenes.json"


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """What a split on disk holds; kept beside the pictures, so that a second run can tell whether it is done."""

    split: str
    number: int
    size: int = 160
    seed: int = 0
    version: int = GENERATOR_VERSION

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InvalidInputError(f"scenes have the splits {', '.join(SPLITS)}; got {self.split!r}.")
        if self.number < 1:
            raise InvalidInputError(f"a split needs 1 picture or more; got {self.number} for {self.split!r}.")
        if not 32 <= self.size <= 1024:
            raise InvalidInputError(f"a picture's side is 32 to 1024 pixels; got {self.size}.")


def write_split(
    folder: Path, plan: SplitPlan, *, workers: int = 1, advance: Callable[[int], object] = lambda count: None
) -> bool:
    """Write ``folder/<split>`` (pictures and ``metadata.jsonl``).

    The work lies in ``folder/.<split>.partial`` until it is complete; a later call goes on from there.

    Args:
        folder: the data set's folder; made where missing.
        plan: what to write.
        workers: processes; 1 works in this one.
        advance: called with the number of pictures just finished (or found finished).

    Returns:
        True where pictures were drawn, False where the split was already there.

    Raises:
        DataError: the split is there with another plan.
    """
    target, work = folder / plan.split, folder / f".{plan.split}.partial"
    if target.exists():
        _check_same(target, plan)
        advance(plan.number)
        return False
    if _read_plan(work) != asdict(plan):
        shutil.rmtree(work, ignore_errors=True)
    (work / "parts").mkdir(parents=True, exist_ok=True)
    _write_atomically(work / _PLAN_FILE, json.dumps(asdict(plan)))
    for finished in _run_chunks(work, plan, workers):
        advance(finished)
    parts = sorted((work / "parts").glob("*.jsonl"))
    _write_atomically(work / "metadata.jsonl", "".join(part.read_text() for part in parts))
    shutil.rmtree(work / "parts")
    os.replace(work, target)
    return True


def _run_chunks(work: Path, plan: SplitPlan, workers: int) -> Iterator[int]:
    """Draw every chunk that is not there yet; yields the pictures of each finished chunk."""
    todo = []
    for start in range(0, plan.number, _CHUNK):
        stop = min(start + _CHUNK, plan.number)
        if (work / "parts" / f"{start:09d}.jsonl").exists():
            yield stop - start
        else:
            todo.append((start, stop))
    draw = partial(_write_chunk, work, plan)
    if workers <= 1 or len(todo) <= 1:
        yield from (draw(*span) for span in todo)
        return
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(draw, *span) for span in todo]):
            yield future.result()


def _write_chunk(work: Path, plan: SplitPlan, start: int, stop: int) -> int:
    lines = []
    for index in range(start, stop):
        example = make_example(plan.split, index, seed=plan.seed, size=plan.size)
        example.draw().save(work / file_name(index), compress_level=1)
        lines.append(json.dumps(example.metadata) + "\n")
    _write_atomically(work / "parts" / f"{start:09d}.jsonl", "".join(lines))
    return stop - start


def _read_plan(folder: Path) -> object:
    try:
        return json.loads((folder / _PLAN_FILE).read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _check_same(target: Path, plan: SplitPlan) -> None:
    found = _read_plan(target)
    if found != asdict(plan):
        raise DataError(
            f"{target} exists and holds {found or 'something that is not scenes'}, but {asdict(plan)} was asked for. "
            "Give another folder, or delete that one."
        )


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
