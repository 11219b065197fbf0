"""`vlkd align`: two unimodal encoders become one CLIP-style teacher (LiT-style)."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vlkd_hub.errors import RecipeError

from .build import build_teacher
from .data import load_records
from .data.collate import AlignCollator
from .encoders import cache_dir
from .features import cached_backbone_features, cached_pooled_text
from .phases import train_phase
from .recipe import load_recipe
from .rows import CaptionRows
from .runs import Run

__all__ = ["run_align"]

_console = Console(stderr=True)
_FROZEN = ["vision_tower.backbone", "text_model"]


def run_align(
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
    """Align the towers of a recipe on pictures with captions and save the dual encoder to ``output``.

    The towers stay frozen and their outputs are cached; the projections, the pooling head and the temperature learn.

    Returns:
        The Trainer's metrics of the last phase.

    Raises:
        RecipeError: the recipe asks for what alignment cannot do.
    """
    recipe = load_recipe(recipe_name, "align")
    spec, root = recipe.teacher, cache or cache_dir() / "features"
    records = load_records(data, split, limit=limit)
    torch.manual_seed(seed)
    model, processor = build_teacher(spec)
    rows = CaptionRows(records)
    _console.print(f"Aligning {spec.vision} and {spec.text} on {len(records)} pictures, {len(rows)} captions")
    tower = model.vision_tower
    only_pooled = tower.config.pool == "avg" and tower.config.num_head_layers == 0
    features = cached_backbone_features(
        tower, processor.image_processor, records, root, views=spec.views, pooled=only_pooled, dtype=cache_dtype
    )
    texts = cached_pooled_text(model, processor.tokenizer, rows.texts, root)
    collator = AlignCollator(rows, features["features"], texts["vectors"])
    facts = {"recipe": dataclasses.asdict(recipe), "data": records.fingerprint, "seed": seed}
    run = Run(output, facts | {"training arguments": overrides or {}}, resume)
    metrics: dict[str, float] = {}
    settings = {"freeze": _FROZEN, "seed": seed} | (overrides or {})
    for number, phase in enumerate(recipe.phases):
        if phase.method != "align":
            raise RecipeError(f"An align recipe has phases with method 'align', got {phase.method!r}.")
        metrics = run.train(
            number, model, functools.partial(train_phase, phase, model, rows, collator, overrides=settings)
        )
    run.save(model, processor, {"recipe": str(recipe_name), "data": data, "source": recipe.source}, metrics)
    return metrics
