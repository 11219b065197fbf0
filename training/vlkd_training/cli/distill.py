"""`vlkd distill`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_hub.errors import InvalidInputError
from vlkd_training.cli.options import RunOptions, with_run_options
from vlkd_training.distill import run_distill
from vlkd_training.distill_stream import run_stream_distill

__all__ = ["distill"]


@with_run_options
def distill(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes.")],
    teacher: Annotated[str, typer.Option(help="Aligned teacher or CLIP: folder or Hub id.")],
    options: RunOptions,
    save_initial: Annotated[bool, typer.Option(help="Also save the student before training.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the data as it comes and ask the teacher; nothing is cached.")
    ] = False,
) -> None:
    """Distil a student from a teacher."""
    if stream:
        keywords = options.keywords()
        if save_initial or keywords.pop("cache_dtype") != "float16":
            raise InvalidInputError("--stream caches no features: leave --save-initial and --cache-dtype out.")
        run_stream_distill(recipe, options.data, teacher, options.output, **keywords)
        typer.echo(f"Student saved to {options.output}")
        return
    run_distill(recipe, options.data, teacher, options.output, save_initial=save_initial, **options.keywords())
    typer.echo(f"Student saved to {options.output}")
