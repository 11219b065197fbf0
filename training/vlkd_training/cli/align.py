"""`vlkd align`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_training.align import run_align
from vlkd_training.cli.options import RunOptions, with_run_options

__all__ = ["align"]


@with_run_options
def align(
    options: RunOptions,
    recipe: Annotated[str, typer.Option(help="Recipe by name or path.")] = "align-scenes",
) -> None:
    """Align two unimodal encoders into a CLIP-style teacher."""
    run_align(recipe, options.data, options.output, **options.keywords())
    typer.echo(f"Teacher saved to {options.output}")
