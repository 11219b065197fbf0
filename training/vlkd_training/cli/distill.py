"""`vlkd distill`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_training.cli.options import RunOptions, with_run_options
from vlkd_training.distill import run_distill

__all__ = ["distill"]


@with_run_options
def distill(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes.")],
    teacher: Annotated[str, typer.Option(help="Aligned teacher or CLIP: folder or Hub id.")],
    options: RunOptions,
    save_initial: Annotated[bool, typer.Option(help="Also save the student before training.")] = False,
) -> None:
    """Distil a student from a teacher."""
    run_distill(recipe, options.data, teacher, options.output, save_initial=save_initial, **options.keywords())
    typer.echo(f"Student saved to {options.output}")
