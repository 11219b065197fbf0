"""`vlkd finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_training.cli.options import RunOptions, with_run_options
from vlkd_training.finetune import run_finetune

__all__ = ["finetune"]


@with_run_options
def finetune(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes-finetune.")],
    model: Annotated[str, typer.Option(help="Distilled student: folder or Hub id.")],
    options: RunOptions,
) -> None:
    """Fine-tune a student for captions and questions."""
    run_finetune(recipe, options.data, model, options.output, **options.keywords())
    typer.echo(f"Student saved to {options.output}")
