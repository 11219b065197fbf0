"""`vlkd finetune` with a recipe of kind ``classify``: an encoder of one modality learns classes, or is probed."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vlkd_hub.errors import RecipeError

from .cache import weights_fingerprint
from .classify_images import Work, image_work
from .classify_texts import text_work
from .encoders import cache_dir
from .layer_decay import layer_multipliers
from .phases import train_phase
from .recipe import Recipe, load_recipe
from .runs import Run

__all__ = ["run_classify"]

_console = Console(stderr=True)


def run_classify(
    recipe_name: str | Path,
    data: str,
    model_path: str,
    output: Path,
    *,
    task: str | None = None,
    split: str = "train",
    limit: int | None = None,
    cache: Path | None = None,
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
    resume: bool = False,
    cache_dtype: str = "float16",
) -> dict[str, float]:
    """Fine-tune or probe an encoder, score it on held-out data, and save the classifier to ``output``.

    Args:
        recipe_name: name or path of a ``classify`` recipe with one phase.
        data: pictures with classes, see :func:`vlkd_training.data.load_records`; or GLUE, see
            :func:`vlkd_training.data.glue.load_glue`.
        model_path: the encoder: what `vlkd distill` wrote, or any other of its modality.
        output: the classifier's folder.
        task: of GLUE; none for pictures.
        split: to train on.
        limit: use only the first pictures or texts.
        cache: where features of a probe are kept.
        seed: of the head, batches and augmentations.
        overrides: training arguments that win over the recipe's.
        resume: go on from what an interrupted run left.
        cache_dtype: how a probe's features are kept, ``"float16"`` or ``"int8"``.

    Returns:
        The Trainer's metrics, and ``split/measure`` -> score.

    Raises:
        RecipeError: several phases, a task too many or too few, or an option that has no effect.
        DataError: data or weights are missing.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.3, Tables 27 and 28.
    """
    recipe = load_recipe(recipe_name, "classify")
    if len(recipe.phases) != 1:
        raise RecipeError(f"A recipe to classify has one phase; {recipe_name} has {len(recipe.phases)}.")
    spec, phase = recipe.student, recipe.phases[0]
    torch.manual_seed(seed)
    if spec.modality == "text":
        work = text_work(phase, data, model_path, task, split, limit)
    elif task is not None:
        raise RecipeError(f"--task names a task of GLUE, and {recipe_name} is for pictures; leave it out.")
    else:
        root = cache or cache_dir() / "features"
        work = image_work(phase, spec, data, model_path, split, limit, root, cache_dtype)
    _console.print(f"{'Probing' if spec.probe else 'Fine-tuning'} on {len(work.rows)} rows of {data}")
    place = {"data": data, "task": task, "split": split, "limit": limit}
    facts = {"recipe": dataclasses.asdict(recipe), **place, "model": weights_fingerprint(work.model)}
    run = Run(output, facts | {"seed": seed, "training arguments": overrides or {}}, resume)
    settings = {"seed": seed} | _what_learns(recipe, work) | (overrides or {})
    train = functools.partial(train_phase, phase, work.model, work.rows, work.collator, overrides=settings)
    metrics = run.train(0, work.model, train)
    metrics |= work.score()
    lineage = {"recipe": str(recipe_name), **place, "from": model_path, "source": recipe.source}
    run.save(work.model, work.processor, lineage, metrics)
    return metrics


def _what_learns(recipe: Recipe, work: Work) -> dict[str, Any]:
    """Training arguments of a probe (the encoder frozen and at rest), or of layer decay."""
    if recipe.student.probe:
        return {"freeze": [work.encoder], "rest_frozen": True}
    if recipe.student.layer_decay == 1.0:
        return {}
    return {"lr_multipliers": layer_multipliers(work.model, work.encoder, recipe.student.layer_decay)}
