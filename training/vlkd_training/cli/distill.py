"""`vlkd distill`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from vlkd_hub.errors import InvalidInputError
from vlkd_training.cli.options import RunOptions, with_run_options
from vlkd_training.distill import run_distill
from vlkd_training.distill_stream import run_stream_distill
from vlkd_training.image_quantizer import run_image_quantizer
from vlkd_training.recipe import recipe_kind
from vlkd_training.smke import run_smke
from vlkd_training.unimodal import run_unimodal

__all__ = ["distill"]

_WITH_TEACHER: dict[str, Callable[..., Any]] = {
    "distill": run_distill,
}
"""By kind of recipe: ``run(recipe, data, teacher, output, **options)``."""

_TEACHER_IN_RECIPE: dict[str, Callable[..., Any]] = {
    "quantize-images": run_image_quantizer,
    "smke": run_smke,
    "unimodal": run_unimodal,
}
"""By kind of recipe: ``run(recipe, data, output, **options)``; the recipe itself names the teacher."""


@with_run_options
def distill(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes.")],
    options: RunOptions,
    teacher: Annotated[
        str | None, typer.Option(help="Aligned teacher or CLIP: folder or Hub id. Not where the recipe names it.")
    ] = None,
    save_initial: Annotated[bool, typer.Option(help="Also save the student before training.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read the data as it comes and ask the teacher; nothing is cached.")
    ] = False,
) -> None:
    """Distil a student from a teacher."""
    kind, keywords = recipe_kind(recipe), options.keywords()
    if kind in _TEACHER_IN_RECIPE:
        if teacher is not None or save_initial or stream:
            raise InvalidInputError(
                f"A recipe to {kind} names its own teacher and caches its features: leave --teacher, --save-initial "
                "and --stream out."
            )
        _TEACHER_IN_RECIPE[kind](recipe, options.data, options.output, **keywords)
    elif teacher is None:
        raise InvalidInputError("Give the teacher: --teacher FOLDER, as `vlkd align` wrote it, or a CLIP's Hub id.")
    elif stream:
        if save_initial or keywords.pop("cache_dtype") != "float16":
            raise InvalidInputError("--stream caches no features: leave --save-initial and --cache-dtype out.")
        run_stream_distill(recipe, options.data, teacher, options.output, **keywords)
    else:
        if save_initial:
            keywords["save_initial"] = True
        _WITH_TEACHER.get(kind, run_distill)(recipe, options.data, teacher, options.output, **keywords)
    typer.echo(f"Student saved to {options.output}")
