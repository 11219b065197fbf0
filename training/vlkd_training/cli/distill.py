"""`vlkd distill`."""

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
from vlkd_training.distill import run_distill

__all__ = ["distill"]


def distill(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes.")],
    data: DataOption,
    teacher: Annotated[str, typer.Option(help="Aligned teacher or CLIP: folder or Hub id.")],
    output: OutputOption,
    split: SplitOption = "train",
    limit: LimitOption = None,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    save_initial: Annotated[bool, typer.Option(help="Also save the student before training.")] = False,
    set_: SetOption = None,
) -> None:
    """Distil a student from a teacher."""
    run_distill(
        recipe,
        data,
        teacher,
        output,
        split=split,
        limit=limit,
        cache=cache,
        seed=seed,
        overrides=overrides(set_),
        save_initial=save_initial,
    )
    typer.echo(f"Student saved to {output}")
