"""Trains the image vector quantizer on cached features of a frozen teacher: recipes of kind ``quantize-images``."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import TrainerCallback

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import ImageQuantizerConfig, ImageQuantizerModel
from vlkd_hub.models.smke.image_codebook import CodebookUsage, codebook_usage

from .build import make_image_processor
from .data import load_records
from .encoders import cache_dir
from .image_teacher import load_image_teacher
from .losses import ImageQuantizationLoss
from .patch_features import TeacherFeatures, cached_teacher_features
from .phases import check_options, train_phase
from .recipe import Recipe, load_recipe, suggestion
from .runs import Run, is_main_process

__all__ = ["FeatureCollator", "UsageAfterEpoch", "measure_quantizer", "run_image_quantizer"]

_console = Console(stderr=True)
_DATA_OPTIONS = ("validation",)
_MEASURE_BATCH = 256


def run_image_quantizer(
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
    """Train the quantizer of a recipe on pictures and save it to ``output``; captions are not looked at.

    After each epoch loss and codebook usage are measured on the split that the phase names as ``validation``, else on
    the training pictures, and written to ``usage.jsonl``.

    Returns:
        The Trainer's metrics of the last phase, and usage and loss at the end.

    Raises:
        RecipeError: the recipe asks for what the quantizer or its teacher cannot do.
    """
    recipe, root = load_recipe(recipe_name, "quantize-images"), cache or cache_dir() / "features"
    _check_phases(recipe)
    spec, records = recipe.teacher, load_records(data, split, limit=limit)
    torch.manual_seed(seed)
    teacher = load_image_teacher(spec.image, ["cls", "patches"] if spec.patches == -1 else ["cls"])
    mean, std = (values.flatten().tolist() for values in (teacher.mean, teacher.std))
    processor = make_image_processor(spec.image_size, spec.resize, mean, std)
    features = functools.partial(cached_teacher_features, teacher, spec, processor, root=root, dtype=cache_dtype)
    trained = features(records)
    model = _build(recipe.student.model, trained)
    _console.print(f"Quantizing {len(records)} pictures to {model.config.codebook_size} prototypes")
    facts = {"recipe": dataclasses.asdict(recipe), "data": records.fingerprint, "seed": seed}
    run = Run(output, facts | {"training arguments": overrides or {}}, resume)
    settings: dict[str, Any] = {"seed": seed} | (overrides or {})
    rows: Any = range(len(records))
    metrics: dict[str, float] = {}
    for number, phase in enumerate(recipe.phases):
        held_out = phase.data.get("validation")
        measured = trained if held_out is None else features(load_records(data, held_out), views=1)
        watch = UsageAfterEpoch(measured, run.phase(number) / "usage.jsonl")
        train = functools.partial(train_phase, phase, model, rows, FeatureCollator(trained), callbacks=[watch])
        metrics = run.train(number, model, functools.partial(train, overrides=settings))
        metrics |= _report(*measure_quantizer(model, measured))
    lineage = {"recipe": str(recipe_name), "data": data, "teacher": spec.image, "source": recipe.source}
    run.save(model, processor, lineage, metrics)
    return metrics


def _check_phases(recipe: Recipe) -> None:
    for phase in recipe.phases:
        if phase.method != "image_quantizer":
            raise RecipeError(f"A recipe to {recipe.kind} has phases of 'image_quantizer', got {phase.method!r}.")
        check_options(phase.data, _DATA_OPTIONS, f"data options of {phase.method!r}")


def _build(fields: dict[str, Any], features: TeacherFeatures) -> ImageQuantizerModel:
    known = {item.name for item in dataclasses.fields(ImageQuantizerConfig)}
    for name in fields:
        if name not in known:
            raise RecipeError(f"student: model: there is no key {name!r}.{suggestion(name, known)}")
    width, patch_width = features.classes.shape[-1], features.patches.shape[-1]
    sizes = {"hidden_size": width, "patch_hidden_size": None if patch_width == width else patch_width}
    try:
        model = ImageQuantizerModel(ImageQuantizerConfig(**(sizes | fields)))
    except ValueError as error:
        raise RecipeError(f"student: model: {error}") from error
    if model.config.standardize:
        model.fit_standardization(torch.from_numpy(np.array(features.classes[0])).float())
    return model


class FeatureCollator:
    """Batches of a teacher's cached features, a random view of each picture.

    Args:
        features: of :func:`vlkd_training.patch_features.cached_teacher_features`.
        plain: take the plain view and draw nothing.
    """

    def __init__(self, features: TeacherFeatures, plain: bool = False) -> None:
        self.features, self.plain = features, plain

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return ``teacher_cls`` (batch, D), ``teacher_patches`` (batch, N, width) and ``image_ids`` (batch,)."""
        count = 1 if self.plain else self.features.classes.shape[0]
        places = list(zip(torch.randint(count, (len(rows),)).tolist(), rows, strict=True)) if count > 1 else None
        picked = [
            np.stack([array[view, row] for view, row in places or [(0, row) for row in rows]])
            for array in (self.features.classes, self.features.patches)
        ]
        classes, patches = (torch.from_numpy(array).float() for array in picked)
        return {"teacher_cls": classes, "teacher_patches": patches, "image_ids": torch.tensor(list(rows))}


@torch.no_grad()
def measure_quantizer(model: ImageQuantizerModel, features: TeacherFeatures) -> tuple[CodebookUsage, float]:
    """Quantize the plain view of every picture; the codebook stays, and no random number of the run is used up.

    Returns:
        How the codebook is used, and the mean of L_I-VQ, equation (88).

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.7.3 (both after each epoch).
    """
    collate, loss = FeatureCollator(features, plain=True), ImageQuantizationLoss()
    device, training, total, codes = model.device, model.training, 0.0, []
    model.eval()
    pictures = features.classes.shape[1]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        for start in range(0, pictures, _MEASURE_BATCH):
            batch = collate(range(start, min(start + _MEASURE_BATCH, pictures)))
            classes, patches = batch["teacher_cls"].to(device), batch["teacher_patches"].to(device)
            found = model(teacher_cls=classes, teacher_patches=patches)
            parts = loss(found.reconstruction, classes, found.projected, found.prototypes)
            total += len(classes) * float(sum(parts.values()))
            codes.append(found.codes.cpu())
    model.train(training)
    return codebook_usage(torch.cat(codes), model.config.codebook_size), total / pictures


class UsageAfterEpoch(TrainerCallback):
    """Writes loss and usage after each epoch, one JSON line each.

    Args:
        features: what they are measured on.
        file: made with its folder; the lines of epochs that a resumed run repeats are replaced.
    """

    def __init__(self, features: TeacherFeatures, file: Path) -> None:
        self.features, self.file = features, file

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure; the main process writes."""
        if not is_main_process():
            return
        usage, loss = measure_quantizer(kwargs["model"], self.features)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        before = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []
        kept = [entry for entry in before if entry["step"] < state.global_step]
        kept.append({"step": state.global_step, "epoch": state.epoch, "loss": loss, **usage.to_dict()})
        self.file.write_text("".join(json.dumps(entry) + "\n" for entry in kept))


def _report(usage: CodebookUsage, loss: float) -> dict[str, float]:
    """Say how the codebook is used, a collapse in yellow; return the same as metrics."""
    said = (
        f"Loss {loss:.4f}; {usage.used} prototypes used, perplexity {usage.perplexity:.1f}, {usage.pictures} pictures"
    )
    if usage.collapsed:
        said = f"[yellow]{said}. The codebook has collapsed to a few codes: lower code_size.[/yellow]"
    _console.print(said, highlight=False)
    return {f"codebook_{name}": value for name, value in usage.to_dict().items()} | {"quantization_loss": loss}
