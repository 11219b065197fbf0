"""`vlkd distill --stream`: the same distillation from a stream, with the teacher at work instead of cached."""

from __future__ import annotations

import dataclasses
import functools
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vlkd_hub.errors import DataError, RecipeError

from .build import build_student, load_teacher, solve_text_projection
from .cache import weights_fingerprint
from .checks import check_vocabulary
from .data.open import stream_records
from .distill import SOLVE_ON, encoder_means, teacher_text_vectors
from .encoders import cache_dir
from .phases import check_options, train_phase
from .recipe import Phase, load_recipe
from .runs import Run
from .stream import CaptionStream, StreamCollator
from .teachers import TextTeacher

__all__ = ["run_stream_distill"]

_console = Console(stderr=True)
_DATA_OPTIONS = ("mask_ratio", "poisson_lambda", "max_length", "shuffle_buffer")


def run_stream_distill(
    recipe_name: str | Path,
    data: str,
    teacher_path: str,
    output: Path,
    *,
    split: str = "train",
    limit: int | None = None,
    cache: Path | None = None,
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
    resume: bool = False,
) -> dict[str, float]:
    """Distil from shards that are never held: pictures are decoded and the teacher's texts embedded as they come.

    Nothing is cached but the text vectors that W_e starts from. Arguments as
    :func:`vlkd_training.distill.run_distill`; ``limit`` counts records of each shard.

    Returns:
        The Trainer's metrics of the last phase, and ``init_cosine`` of the least-squares start.

    Raises:
        RecipeError: a phase has no ``max_steps`` (a stream has no end), or asks for what a stream cannot give.
        DataError: the stream holds no caption.
        RuntimeError: the frozen image tower changed.
    """
    recipe = load_recipe(recipe_name, "distill")
    settings = {"seed": seed} | (overrides or {})
    for phase in recipe.phases:
        check_options(phase.data, _DATA_OPTIONS, f"data options of {phase.method!r} on a stream")
        if not (phase.train | settings).get("max_steps"):
            raise RecipeError(f"Phase {phase.method!r}: a stream has no end, so the recipe must say max_steps.")
    teacher, teacher_processor = load_teacher(teacher_path)
    torch.manual_seed(seed)
    student, processor = build_student(recipe.student, teacher, teacher_processor, recipe.tasks)
    check_vocabulary(student, processor.tokenizer)
    frozen = weights_fingerprint(student.vlkd.vision_tower)
    facts = {"recipe": dataclasses.asdict(recipe), "data": [data, split, limit], "seed": seed}
    facts |= {"teacher": weights_fingerprint(teacher), "training arguments": overrides or {}}
    run = Run(output, facts, resume)
    metrics: dict[str, float] = {}
    if recipe.student.least_squares_init:
        metrics["init_cosine"] = _solve(
            student, processor, teacher, teacher_processor, data, split, cache or cache_dir() / "features"
        )
    asked = TextTeacher(teacher)
    for number, phase in enumerate(recipe.phases):
        stream = CaptionStream(data, split, seed=seed, buffer=phase.data.get("shuffle_buffer", 1000), limit=limit)
        collator, helper = _collator(phase, processor, teacher_processor, asked)
        train = functools.partial(train_phase, phase, student, stream, collator, overrides=settings, teacher=helper)
        metrics |= run.train(number, student, train)
    if weights_fingerprint(student.vlkd.vision_tower) != frozen:
        raise RuntimeError("The frozen image tower changed during training; its space is no longer the teacher's.")
    lineage = {"recipe": str(recipe_name), "data": data, "teacher": teacher_path, "source": recipe.source}
    run.save(student, processor, lineage, metrics)
    return metrics


def _collator(
    phase: Phase, processor: Any, teacher_processor: Any, teacher: TextTeacher
) -> tuple[StreamCollator, TextTeacher | None]:
    options = {name: value for name, value in phase.data.items() if name != "shuffle_buffer"}
    if phase.method == "text_infilling":
        return StreamCollator(processor.tokenizer, None, None, **options), None
    return StreamCollator(
        processor.tokenizer, processor.image_processor, teacher_processor.tokenizer, **options
    ), teacher


def _solve(
    student: Any, processor: Any, teacher: Any, teacher_processor: Any, data: str, split: str, root: Path
) -> float:
    """The least-squares start of W_e on the head of the stream, as many texts as a cached run takes."""
    captions = (caption for record in stream_records(data, split) for caption in record.captions)
    texts = list(islice(captions, SOLVE_ON))
    if not texts:
        raise DataError(f"{data} ({split}) holds no caption; distillation needs pictures with captions.")
    vectors = teacher_text_vectors(teacher, teacher_processor, texts, root)
    cosine = solve_text_projection(student, encoder_means(student, processor, texts, root)["vectors"], vectors)
    _console.print(f"W_e solved by least squares: mean cosine to the teacher's text vectors {cosine:.3f}")
    return cosine
