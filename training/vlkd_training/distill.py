"""`vlkd distill`: a teacher's knowledge goes into a VLKD student (002_330011b7ef9ac362.txt)."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn
from transformers import CLIPModel

from vlkd_hub.models import DualEncoderModel, VlkdForConditionalGeneration

from .build import build_student, load_teacher, solve_text_projection
from .cache import FeatureCache, weights_fingerprint
from .checks import check_vocabulary
from .data import load_records
from .data.collate import CaptionCollator, PictureSource
from .encoders import cache_dir
from .features import cached_backbone_features, cached_image_tokens, cached_pooled_text, cached_text_vectors
from .phases import check_options, train_phase
from .recipe import Phase, load_recipe
from .rows import CaptionRows
from .runs import Run, is_main_process
from .saving import save_model
from .views import RandomViews

__all__ = [
    "SOLVE_ON",
    "cached_picture_tokens",
    "encoder_means",
    "picture_source",
    "run_distill",
    "teacher_text_vectors",
]

_console = Console(stderr=True)
SOLVE_ON = 5000
"""Texts that the least-squares start of W_e is solved on: an order above the width of any encoder here."""

_DATA_OPTIONS = ("mask_ratio", "poisson_lambda", "max_length", "views")


def run_distill(
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
    save_initial: bool = False,
    resume: bool = False,
    cache_dtype: str = "float16",
) -> dict[str, float]:
    """Distil a student from a dual-encoder teacher and save it to ``output``.

    Args:
        recipe_name: name or path of a ``distill`` recipe.
        data: see :func:`vlkd_training.data.load_records`.
        teacher_path: folder or Hub id of an aligned teacher or a CLIP.
        output: the student's folder; checkpoints lie in its ``phase-N``.
        split: of the data.
        limit: use only the first pictures.
        cache: where features are kept between runs.
        seed: of weights and batches.
        overrides: training arguments that win over the recipe's.
        save_initial: also save the student before training, in ``output/initial``.
        resume: go on from what an interrupted run of the same arguments left in ``output``.
        cache_dtype: how picture features are kept, ``"float16"`` or ``"int8"``.

    Returns:
        The Trainer's metrics of the last phase, and ``init_cosine`` of the least-squares start.

    Raises:
        RuntimeError: the frozen image tower changed.
    """
    recipe = load_recipe(recipe_name, "distill")
    root = cache or cache_dir() / "features"
    records = load_records(data, split, limit=limit)
    teacher, teacher_processor = load_teacher(teacher_path)
    torch.manual_seed(seed)
    student, processor = build_student(recipe.student, teacher, teacher_processor, recipe.tasks)
    check_vocabulary(student, processor.tokenizer)
    rows = CaptionRows(records)
    _console.print(f"Distilling on {len(records)} pictures, {len(rows)} captions")
    frozen = weights_fingerprint(student.vlkd.vision_tower)
    facts = {"recipe": dataclasses.asdict(recipe), "data": records.fingerprint, "seed": seed}
    facts |= {"teacher": weights_fingerprint(teacher), "cache dtype": cache_dtype}
    facts |= {"training arguments": overrides or {}}
    run = Run(output, facts, resume)
    vectors = teacher_text_vectors(teacher, teacher_processor, rows.texts, root)
    views = max(phase.data.get("views", 1) for phase in recipe.phases)
    pictures = picture_source(student, processor, records, root, views=views, dtype=cache_dtype)
    metrics: dict[str, float] = {}
    lineage = {"recipe": str(recipe_name), "data": data, "teacher": teacher_path, "source": recipe.source}
    if recipe.student.least_squares_init:
        chosen = np.random.default_rng(seed).permutation(len(rows))[:SOLVE_ON]
        means = encoder_means(student, processor, [rows.texts[row] for row in chosen], root)["vectors"]
        cosine = solve_text_projection(student, means, vectors[chosen])
        _console.print(f"W_e solved by least squares: mean cosine to the teacher's text vectors {cosine:.3f}")
        metrics["init_cosine"] = cosine
    if save_initial and is_main_process():
        save_model(student, processor, output / "initial", lineage)
    settings = {"seed": seed} | (overrides or {})
    for number, phase in enumerate(recipe.phases):
        collator = _collator(phase, rows, processor, pictures, vectors)
        train = functools.partial(train_phase, phase, student, rows, collator, overrides=settings)
        metrics |= run.train(number, student, train)
    if weights_fingerprint(student.vlkd.vision_tower) != frozen:
        raise RuntimeError("The frozen image tower changed during training; its space is no longer the teacher's.")
    run.save(student, processor, lineage, metrics)
    return metrics


def _collator(phase: Phase, rows: Any, processor: Any, pictures: PictureSource, vectors: np.ndarray) -> CaptionCollator:
    check_options(phase.data, _DATA_OPTIONS, f"data options of {phase.method!r}")
    text_only = phase.method == "text_infilling"
    options = {name: value for name, value in phase.data.items() if name != "views"}
    return CaptionCollator(
        rows, processor.tokenizer, None if text_only else pictures, None if text_only else vectors, **options
    )


def picture_source(
    student: VlkdForConditionalGeneration, processor: Any, records: Any, root: Path, *, views: int, dtype: str
) -> PictureSource:
    """Cached V of every picture; with several views a random one each time."""
    tokens = cached_picture_tokens(student, processor, records, root, views=views, dtype=dtype)["tokens"]
    chosen: Any = tokens if views == 1 else RandomViews(tokens)
    return PictureSource(chosen)


def cached_picture_tokens(
    student: VlkdForConditionalGeneration,
    processor: Any,
    records: Any,
    root: Path,
    *,
    views: int = 1,
    dtype: str = "float16",
) -> FeatureCache:
    """V of every picture, by way of the backbone features that alignment may have left in the cache."""
    tower = student.vlkd.vision_tower.eval()
    backbone = cached_backbone_features(tower, processor.image_processor, records, root, views=views, dtype=dtype)

    def tokens_of(features: torch.Tensor) -> torch.Tensor:
        return student.vlkd.tokens_from_tower(tower(backbone_features=features))

    return cached_image_tokens(tower, tokens_of, backbone, root, dtype=dtype)


def teacher_text_vectors(
    teacher: DualEncoderModel | CLIPModel, processor: Any, texts: list[str], root: Path
) -> np.ndarray:
    """t_eos of every text: the frozen teacher's unit vectors, shape ``(texts, d1)``, float32.

    An aligned teacher's text tower is the one that alignment cached; only its projection is applied here.
    """
    if isinstance(teacher, DualEncoderModel):
        pooled = cached_pooled_text(teacher, processor.tokenizer, texts, root)["vectors"]
        with torch.inference_mode():
            return nn.functional.normalize(teacher.text_projection(torch.from_numpy(np.array(pooled))), dim=-1).numpy()

    def encode(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.normalize(teacher.get_text_features(**inputs).pooler_output.float(), dim=-1)

    width = teacher.config.projection_dim
    found = cached_text_vectors(teacher, processor.tokenizer, encode, texts, width, root, kind="teacher_text")
    return np.array(found["vectors"])


def encoder_means(student: VlkdForConditionalGeneration, processor: Any, texts: list[str], root: Path) -> FeatureCache:
    """Mean encoder output of every text, for the least-squares start of W_e."""
    encoder = student.vlkd.text_encoder.eval()

    def encode(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        weights = inputs["attention_mask"].unsqueeze(-1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    width = student.config.text_encoder.hidden_size
    return cached_text_vectors(encoder, processor.tokenizer, encode, texts, width, root, kind="encoder")
