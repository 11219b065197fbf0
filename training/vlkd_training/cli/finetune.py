"""`vlkd finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from vlkd_hub.errors import RecipeError
from vlkd_training.classify import run_classify
from vlkd_training.cli.options import RunOptions, with_run_options
from vlkd_training.finetune import run_finetune
from vlkd_training.finetune_text import TEXT_METHODS, run_text_finetune
from vlkd_training.recipe import load_recipe, recipe_kind

__all__ = ["finetune"]


@with_run_options
def finetune(
    recipe: Annotated[str, typer.Argument(help="Recipe by name or path, for example vlkd-scenes-finetune.")],
    model: Annotated[str, typer.Option(help="Distilled student: folder or Hub id.")],
    options: RunOptions,
    task: Annotated[str | None, typer.Option(help="Task of GLUE, with the recipe vlkd-glue: cola, rte, ...")] = None,
) -> None:
    """Fine-tune a student for captions and questions, on texts alone, or an encoder of one modality on classes."""
    settings = options.keywords()
    if recipe_kind(recipe) == "classify":
        _tell(run_classify(recipe, options.data, model, options.output, task=task, **settings))
    elif any(phase.method in TEXT_METHODS for phase in load_recipe(recipe, "finetune").phases):
        wanted = {name: settings[name] for name in ("split", "limit", "seed", "resume", "overrides")}
        _tell(run_text_finetune(recipe, options.data, model, options.output, task=task, **wanted))
    elif task is not None:
        raise RecipeError(f"--task names a task of GLUE, and {recipe} learns from pictures; leave it out.")
    else:
        run_finetune(recipe, options.data, model, options.output, **settings)
    typer.echo(f"Student saved to {options.output}")


def _tell(metrics: dict[str, float]) -> None:
    """Print the scores among the metrics, in points."""
    for name, value in metrics.items():
        if "/" in name:
            typer.echo(f"{name}: {100 * value:.2f}")
