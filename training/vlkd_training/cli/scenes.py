"""`vlkd scenes`: make the synthetic data set."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlkd_training.data.scenes import SplitPlan, write_split

__all__ = ["scenes"]


def scenes(
    folder: Annotated[Path, typer.Argument(help="Folder to fill: one sub-folder a split.")],
    train: Annotated[int, typer.Option(min=0, help="Training pictures.")] = 4000,
    validation: Annotated[int, typer.Option(min=0, help="Validation pictures.")] = 200,
    test: Annotated[int, typer.Option(min=0, help="Test pictures, drawn as the training ones.")] = 500,
    compositional: Annotated[int, typer.Option(min=0, help="Test pictures of unseen shape-colour pairs.")] = 500,
    size: Annotated[int, typer.Option(min=32, help="Side of a picture in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed is another data set.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Draw pictures of coloured shapes with captions, questions, entailment sentences and region boxes."""
    counts = {"train": train, "validation": validation, "test": test, "test_compositional": compositional}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        for split, count in counts.items():
            if count == 0:
                continue
            task = bar.add_task(split, total=count)
            plan = SplitPlan(split=split, number=count, size=size, seed=seed)
            made = write_split(folder, plan, workers=workers, advance=partial(bar.advance, task))
            if not made:
                bar.update(task, description=f"{split} (already there)")
