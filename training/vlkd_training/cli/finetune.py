"""`vlkd finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_training.cli.options import (
    CacheOption,
    DataOption,
    LimitOption,
    OutputOption,
    SeedOption,
    SetOption,
    SplitOption,
    overrides,
)
from vlkd_training.finetune import run_finetune

__all__ = ["finetune"]


def finetune(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes-finetune.")],
    data: DataOption,
    model: Annotated[str, typer.Option(help="Distilled student: folder or Hub id.")],
    output: OutputOption,
    split: SplitOption = "train",
    limit: LimitOption = None,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
) -> None:
    """Fine-tune a student for captions and questions."""
    run_finetune(
        recipe, data, model, output, split=split, limit=limit, cache=cache, seed=seed, overrides=overrides(set_)
    )
    typer.echo(f"Student saved to {output}")
