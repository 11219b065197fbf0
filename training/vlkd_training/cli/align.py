"""`vlkd align`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_training.align import run_align
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

__all__ = ["align"]


def align(
    data: DataOption,
    output: OutputOption,
    recipe: Annotated[str, typer.Option(help="Recipe by name or path.")] = "align-scenes",
    split: SplitOption = "train",
    limit: LimitOption = None,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
) -> None:
    """Align two unimodal encoders into a CLIP-style teacher."""
    run_align(recipe, data, output, split=split, limit=limit, cache=cache, seed=seed, overrides=overrides(set_))
    typer.echo(f"Teacher saved to {output}")
