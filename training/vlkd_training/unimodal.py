"""`vlkd distill` with a recipe of kind ``unimodal``: a teacher of one modality gives its first layers to a student."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vlkd_hub.errors import RecipeError

from .cache import weights_fingerprint
from .checks import check_vocabulary
from .data import load_records
from .data.text_slices import TokenCollator, open_text, token_rows
from .held_out import HeldOut, HeldOutCallback
from .image_batches import ImageCollator, NumberedRows, train_transform
from .layer_choice import cut_layers
from .phases import check_options, train_phase
from .recipe import load_recipe
from .runs import Run
from .teachers import LayerTeacher
from .unimodal_models import Encoder, load_encoder

__all__ = ["run_unimodal"]

_console = Console(stderr=True)
_IMAGE_OPTIONS = ("crop", "flip", "validation_split", "validation_limit")
_TEXT_OPTIONS = (
    "max_length",
    "slices",
    "column",
    "streaming",
    "shuffle_buffer",
    "held_out",
    "validation_split",
    "validation_limit",
)


@dataclasses.dataclass(frozen=True)
class _Material:
    """Rows to train on, what makes batches of them, and batches that are never trained on."""

    rows: Any
    collator: Callable[[Any], dict[str, torch.Tensor]]
    held_out: HeldOut | None


def run_unimodal(
    recipe_name: str | Path,
    data: str,
    output: Path,
    *,
    split: str = "train",
    limit: int | None = None,
    cache: Path | None = None,
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
    resume: bool = False,
    cache_dtype: str = "float16",
) -> dict[str, float]:
    """Distil a shallow student from the teacher that the recipe names and save it to ``output``.

    Args:
        recipe_name: name or path of a ``unimodal`` recipe.
        data: pictures: see :func:`vlkd_training.data.load_records`, labels are not needed; texts: see
            :func:`vlkd_training.data.text_slices.open_text`.
        output: the student's folder.
        split: of the data.
        limit: use only the first pictures or texts.
        cache: refused: the teacher answers live, since augmented pictures differ each time.
        seed: of batches and augmentations.
        overrides: training arguments that win over the recipe's.
        resume: go on from what an interrupted run left in ``output``.
        cache_dtype: refused, as ``cache`` is.

    Returns:
        The Trainer's metrics, and what held-out data gave before and after (:class:`HeldOut`).

    Raises:
        RecipeError: an option that has no effect here, or a stream that should be resumed.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.
    """
    if cache is not None or cache_dtype != "float16":
        raise RecipeError("The teacher answers while the student trains, nothing is cached: leave --cache* out.")
    recipe = load_recipe(recipe_name, "unimodal")
    if resume and any(phase.data.get("streaming") for phase in recipe.phases):
        raise RecipeError("A streamed text cannot be resumed in the middle: start over without --resume.")
    torch.manual_seed(seed)
    teacher = load_encoder(recipe.teacher)
    student = cut_layers(teacher.module, recipe.student.layers)
    if recipe.teacher.modality == "text":
        check_vocabulary(student, teacher.processor)
    _console.print(
        f"Student of {student.num_parameters() / 1e6:.1f}M from {teacher.module.num_parameters() / 1e6:.1f}M"
    )
    place = {"data": data, "split": split, "limit": limit}
    facts = {"recipe": dataclasses.asdict(recipe), **place, "teacher": weights_fingerprint(teacher.module)}
    run = Run(output, facts | {"seed": seed, "training arguments": overrides or {}}, resume)
    live = LayerTeacher(teacher.module)
    material = _pictures if recipe.teacher.modality == "image" else _texts
    metrics: dict[str, float] = {}
    for number, phase in enumerate(recipe.phases):
        made = material(phase.data, data, split, limit, teacher, seed)
        check = None if made.held_out is None else HeldOutCallback(made.held_out, live)
        train = functools.partial(
            train_phase,
            phase,
            student,
            made.rows,
            made.collator,
            overrides={"seed": seed} | (overrides or {}),
            teacher=live,
            callbacks=[] if check is None else [check],
        )
        metrics |= run.train(number, student, train)
        metrics |= {} if check is None else check.metrics
    run.save(student, teacher.processor, {"recipe": str(recipe_name), **place, "source": recipe.source}, metrics)
    return metrics


def _pictures(
    options: dict[str, Any], data: str, split: str, limit: int | None, teacher: Encoder, seed: int
) -> _Material:
    """Augmented pictures; held-out ones are only resized."""
    check_options(options, _IMAGE_OPTIONS, "data options of 'unimodal'")
    records = load_records(data, split, limit=limit)
    processor = teacher.processor
    collator = ImageCollator(records, train_transform(processor, options))
    _console.print(f"Distilling on {len(records)} pictures")
    if "validation_split" not in options:
        return _Material(NumberedRows(records), collator, None)
    kept = load_records(data, options["validation_split"], limit=options.get("validation_limit"))
    plain = ImageCollator(kept, lambda image: processor(image, return_tensors="pt")["pixel_values"][0])
    return _Material(NumberedRows(records), collator, HeldOut(list(range(len(kept))), plain))


def _texts(options: dict[str, Any], data: str, split: str, limit: int | None, teacher: Encoder, seed: int) -> _Material:
    """Slices of joined texts, or one text a row."""
    check_options(options, _TEXT_OPTIONS, "data options of 'unimodal'")
    column, streaming = options.get("column", "text"), options.get("streaming", False)
    length, slices = options.get("max_length", 196), options.get("slices", True)
    tokens = functools.partial(token_rows, tokenizer=teacher.processor, max_length=length, slices=slices)
    texts = open_text(data, split, limit=limit, column=column, streaming=streaming)
    kept = None
    if "validation_split" in options:
        kept = open_text(data, options["validation_split"], limit=options.get("validation_limit"), column=column)
    elif count := options.get("held_out", 0):
        kept, texts = texts.take(count), texts.skip(count)
    if streaming:
        texts = texts.shuffle(seed=seed, buffer_size=options.get("shuffle_buffer", 10_000))
    rows, collator = tokens(texts), TokenCollator(teacher.processor)
    _console.print(f"Distilling on {'a stream' if streaming else len(rows)} of {'slices' if slices else 'texts'}")
    return _Material(rows, collator, None if kept is None else HeldOut(list(tokens(kept)), collator))
