"""`vlkd finetune`: a distilled student learns captions and answers, its image tower frozen (section 4.4, Table 11)."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from vlkd_hub.errors import RecipeError
from vlkd_hub.hub.folders import student_folder
from vlkd_hub.hub.loading import load_whole
from vlkd_hub.inference import load_processor
from vlkd_hub.models import VlkdForConditionalGeneration

from .cache import weights_fingerprint
from .checks import check_vocabulary
from .data import load_records
from .data.collate import PictureSource, TaskCollator
from .distill import picture_source
from .encoders import cache_dir
from .features import cached_text_vectors
from .methods import Method
from .phases import check_options, make_method, train_phase
from .prompts import PromptCollator
from .recipe import Phase, load_recipe
from .rewards import CiderReward
from .rows import CaptionRows, PictureRows, TaskRows
from .runs import Run

__all__ = ["load_student", "run_finetune"]

_console = Console(stderr=True)
_REHEARSED = 5000
"""Captions that hold the text side in place."""


def run_finetune(
    recipe_name: str | Path,
    data: str,
    model_path: str,
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
    """Fine-tune a distilled student on the tasks its recipe names and save it to ``output``.

    Where the recipe gives TTDM a weight, the text side is held to its own vectors from before fine-tuning, so that
    one checkpoint goes on searching while it learns to write.

    Returns:
        The Trainer's metrics of the last phase.

    Raises:
        RecipeError: the recipe's tasks are missing or unknown.
        DataError: the model lacks weights.
        RuntimeError: the frozen image tower changed.
    """
    recipe = load_recipe(recipe_name, "finetune")
    root = cache or cache_dir() / "features"
    records = load_records(data, split, limit=limit)
    torch.manual_seed(seed)
    student, processor = load_student(model_path)
    for task, changes in recipe.tasks.items():
        processor.tasks.setdefault(task, {}).update(changes)
    frozen = weights_fingerprint(student.vlkd.vision_tower)
    facts = {"recipe": dataclasses.asdict(recipe), "data": records.fingerprint, "student": weights_fingerprint(student)}
    run = Run(output, facts | {"seed": seed, "training arguments": overrides or {}}, resume)
    views = max(phase.data.get("views", 1) for phase in recipe.phases)
    pictures = picture_source(student, processor, records, root, views=views, dtype=cache_dtype)
    metrics: dict[str, float] = {}
    settings = {"seed": seed} | (overrides or {})
    for number, phase in enumerate(recipe.phases):
        make = _scst if phase.method == "scst" else _supervised
        rows, collator, method = make(phase, records, student, processor, pictures, root, seed)
        train = functools.partial(train_phase, phase, student, rows, collator, overrides=settings, method=method)
        metrics |= run.train(number, student, train)
    if weights_fingerprint(student.vlkd.vision_tower) != frozen:
        raise RuntimeError("The frozen image tower changed during training; its space is no longer the teacher's.")
    lineage = {"recipe": str(recipe_name), "data": data, "from": model_path, "source": recipe.source}
    run.save(student, processor, lineage, metrics)
    return metrics


def load_student(
    path: str | Path,
    kind: type[VlkdForConditionalGeneration] = VlkdForConditionalGeneration,
    new: tuple[str, ...] = (),
    **options: Any,
) -> tuple[Any, Any]:
    """Load a distilled student with its processor.

    Args:
        path: folder or Hub id.
        kind: class of the student.
        new: prefixes of weights that the folder need not have, those of a head to be trained.
        **options: fields of the config that differ.

    Raises:
        WeightsError: weights are missing.
        RecipeError: the tokenizer is not the student's.
    """
    path = student_folder(path)
    student = load_whole(kind, path, new=new, **options)
    processor = load_processor(path)
    check_vocabulary(student, processor.tokenizer)
    return student, processor


def _supervised(
    phase: Phase, records: Any, student: Any, processor: Any, pictures: PictureSource, root: Path, seed: int
) -> tuple[TaskRows, TaskCollator, None]:
    """Rows and batches of a phase that learns from captions and answers."""
    check_options(phase.data, ("tasks", "max_length", "views"), f"data options of {phase.method!r}")
    tasks = phase.data.get("tasks")
    if not tasks or not set(tasks) <= {"caption", "vqa"}:
        raise RecipeError(f"Name the tasks to fine-tune in data.tasks (caption, vqa) with their shares; got {tasks}.")
    rows = TaskRows(records, processor, tasks, seed=seed)
    _console.print(f"Fine-tuning on {len(rows)} rows of {', '.join(tasks)} over {len(records)} pictures")
    rehearsal = None
    if phase.method_options.get("ttdm_weight"):
        rehearsal = _own_text_vectors(student, processor, CaptionRows(records), root)
    length = phase.data.get("max_length", 64)
    return rows, TaskCollator(rows, processor.tokenizer, pictures, rehearsal, max_length=length), None


def _scst(
    phase: Phase, records: Any, student: Any, processor: Any, pictures: PictureSource, root: Path, seed: int
) -> tuple[PictureRows, PromptCollator, Method]:
    """Rows, batches and reward of a phase that learns from the score of its own captions."""
    check_options(phase.data, ("views",), f"data options of {phase.method!r}")
    rows = PictureRows(records)
    _console.print(f"Self-critical training on the captions of {len(rows)} pictures")
    reward = CiderReward([records[row].captions for row in rows.images])
    method = make_method(phase, reward=reward, processor=processor)
    return rows, PromptCollator(rows, processor.tokenizer, processor.build_prompt("caption"), pictures), method


def _own_text_vectors(
    student: VlkdForConditionalGeneration, processor: Any, rows: CaptionRows, root: Path
) -> tuple[CaptionRows, Any]:
    """Some captions with the vectors that the distilled student gives them now."""
    student.eval()
    rows = rows.subset(_REHEARSED, seed=0)

    def encode(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return student.vlkd.get_text_features(**inputs).pooler_output

    width, text_side = (
        student.config.projection_dim,
        nn.ModuleList([student.vlkd.text_encoder, student.vlkd.text_projection]),
    )
    found = cached_text_vectors(text_side, processor.tokenizer, encode, rows.texts, width, root, kind="student_text")
    return rows, found["vectors"]
