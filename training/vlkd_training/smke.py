"""Aligns two unimodal encoders under a unimodal teacher, as `vlkd distill` does with a recipe of kind ``smke``."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vlkd_hub.errors import RecipeError
from vlkd_hub.hub.folders import student_folder
from vlkd_hub.hub.loading import load_whole
from vlkd_hub.models import SmkeModel
from vlkd_hub.models.smke import SmkeProcessor
from vlkd_hub.models.smke.modeling_image_quantizer import ImageQuantizerModel

from .cache import FeatureCache
from .checks import check_vocabulary
from .data import load_records
from .data.collate_pairs import CachedPictures, CachedTexts, LivePictures, PairCollator
from .encoders import cache_dir
from .features import cached_backbone_features, cached_text_tokens
from .image_teacher import ImageTeacher, cached_teacher_outputs, load_image_teacher
from .methods import SmkeMethod
from .methods.smke import TARGETS
from .phases import check_options, make_method, train_phase
from .recipe import Phase, Recipe, load_recipe
from .rows import CaptionRows
from .runs import Run
from .smke_build import build_smke

__all__ = ["Source", "head_size_of", "run_smke", "smke_method", "teacher_of"]

_console = Console(stderr=True)
_DATA_OPTIONS = ("max_length",)
_BACKBONE, _TEXT = "image_encoder.backbone", "text_encoder"


def run_smke(
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
    """Train the student of a recipe on pictures with captions and save it to ``output``, without its training parts.

    Phases that freeze the image backbone see cached views of it, and the teacher's word on the same views; a phase
    that trains it sees fresh crops, and asks the teacher about them. Texts are cached where a phase freezes their
    encoder.

    Returns:
        The Trainer's metrics of the last phase.

    Raises:
        RecipeError: the recipe asks for what the method or the teacher cannot do.
    """
    recipe, root = load_recipe(recipe_name, "smke"), cache or cache_dir() / "features"
    records = load_records(data, split, limit=limit)
    rows = CaptionRows(records)
    torch.manual_seed(seed)
    teacher = teacher_of(recipe)
    model, processor = build_smke(recipe.student, rows.texts, head_size=head_size_of(recipe, teacher))
    check_vocabulary(model.text_encoder, processor.tokenizer)
    _console.print(f"Aligning on {len(records)} pictures, {len(rows)} captions: {model.num_parameters() / 1e6:.1f}M")
    facts = {"recipe": dataclasses.asdict(recipe), "data": records.fingerprint, "seed": seed}
    run = Run(output, facts | {"training arguments": overrides or {}}, resume)
    source = Source(recipe, model, processor, records, rows, teacher, root, cache_dtype)
    metrics: dict[str, float] = {}
    for number, phase in enumerate(recipe.phases):
        check_options(phase.data, _DATA_OPTIONS, f"data options of {phase.method!r}")
        collator, live = source.collator(phase, overrides or {})
        train = functools.partial(
            train_phase, phase, model, rows, collator, overrides={"seed": seed, **(overrides or {})}
        )
        method = smke_method(phase, model, examples=len(rows))
        metrics = run.train(number, model, functools.partial(train, method=method, teacher=live))
    lineage = {"recipe": str(recipe_name), "data": data, "teacher": recipe.teacher.image, "source": recipe.source}
    run.save(model.without_training_parts(), processor, lineage, metrics)
    return metrics


def smke_method(phase: Phase, model: SmkeModel, examples: int = 0) -> SmkeMethod:
    """Make a phase's method for a student, whose layers and widths a recipe need not repeat.

    ``examples`` is the number of training rows, for banks with a slot each.
    """
    config = model.config
    widths = (config.intermediate_size, config.hidden_size, config.head_size)
    method = make_method(phase, layers=tuple(config.contrast_layers), widths=widths, examples=examples)
    assert isinstance(method, SmkeMethod)
    return method


def teacher_of(recipe: Recipe) -> ImageTeacher | None:
    """Load the teacher with the outputs that the phases' targets need; ``None`` where none does."""
    targets = [phase.method_options.get("target", "cls") for phase in recipe.phases if phase.method == "smke"]
    entries = {name.removeprefix("teacher_") for target in targets for name in TARGETS.get(target, ())}
    wanted = sorted({"cls" if name == "codes" else name for name in entries})
    return load_image_teacher(recipe.teacher.image, wanted) if wanted else None


def head_size_of(recipe: Recipe, teacher: ImageTeacher | None) -> int:
    """Width of h''': the teacher's classes, its codes, or its features; without a teacher the recipe's own or none.

    Raises:
        RecipeError: phases have targets of different widths.
    """
    sizes: dict[str, int] = {}
    for target in {phase.method_options.get("target", "cls") for phase in recipe.phases} - {"none"}:
        if target == "codes":
            sizes[target] = int(_quantizer(recipe.teacher.quantizer).config.codebook_size)
        elif teacher is not None:
            side = recipe.student.image_size
            with torch.inference_mode():
                said = teacher.outputs(torch.zeros(1, 3, side, side))
            sizes[target] = int(said[TARGETS[target][0].removeprefix("teacher_")].shape[-1])
    if len(set(sizes.values())) > 1:
        raise RecipeError(f"One head serves every phase, and their targets have different widths: {sizes}.")
    return next(iter(sizes.values()), 0)


def _quantizer(folder: str | None) -> ImageQuantizerModel:
    if folder is None:
        raise RecipeError("target: codes needs teacher: quantizer, the folder of a trained image quantizer.")
    return load_whole(ImageQuantizerModel, student_folder(folder)).eval()


class Source:
    """Where the batches of a run come from.

    Args:
        recipe: kind ``smke``.
        model: the student.
        processor: its processor.
        records: the pictures.
        rows: their captions.
        teacher: of :func:`teacher_of`.
        root: folder of the caches.
        dtype: how cached features are kept.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: SmkeModel,
        processor: SmkeProcessor,
        records: Any,
        rows: CaptionRows,
        teacher: ImageTeacher | None,
        root: Path,
        dtype: str = "float16",
    ) -> None:
        self.recipe, self.model, self.processor, self.records = recipe, model, processor, records
        self.rows, self.teacher, self.root, self.dtype = rows, teacher, root, dtype

    def collator(self, phase: Phase, overrides: dict[str, Any]) -> tuple[PairCollator, ImageTeacher | None]:
        """Return what makes the batches of a phase, and the teacher where it must be asked live."""
        frozen = overrides.get("freeze", phase.train.get("freeze", []))
        before = self.model.config.token_type == "before"
        cached = _BACKBONE in frozen and (self.model.image_encoder.grid or not before)
        texts = self.texts() if _TEXT in frozen and not before else None
        pictures = self.cached_pictures(phase) if cached else self.live_pictures()
        length = phase.data.get("max_length", self.recipe.student.max_length)
        collator = PairCollator(self.rows, self.processor.tokenizer, pictures, texts, max_length=length)
        if cached or self.teacher is None:
            return collator, None
        own = self.processor.image_processor
        return collator, self.teacher.reads(own.image_mean, own.image_std)

    def live_pictures(self) -> LivePictures:
        """Fresh crops."""
        return LivePictures(self.records, self.processor.image_processor, self.recipe.student.min_crop)

    def cached_pictures(self, phase: Phase) -> CachedPictures:
        """Cached views of the student's backbone, and what the teacher says of the same views."""
        spec = self.recipe.student
        options: dict[str, Any] = {"views": spec.views, "min_area": spec.min_crop, "dtype": self.dtype}
        own = self.processor.image_processor
        features = cached_backbone_features(self.model.image_encoder, own, self.records, self.root, **options)
        arrays: dict[str, Any] = {"image_backbone_features": features["features"]}
        target = TARGETS[phase.method_options.get("target", "cls")]
        if target and self.teacher is not None:
            said = cached_teacher_outputs(self.teacher, own, self.records, self.root, **options)
            for name in target:
                short = name.removeprefix("teacher_")
                arrays[name] = self.codes(said) if short == "codes" else said[short]
        return CachedPictures(arrays)

    def codes(self, said: FeatureCache) -> np.ndarray:
        """The image quantizer's code of every view, shape ``(views, pictures)``."""
        quantizer = _quantizer(self.recipe.teacher.quantizer)
        views = [quantizer.encode(torch.from_numpy(np.array(view)).float()).numpy() for view in said["cls"]]
        return np.stack(views)

    def texts(self) -> CachedTexts:
        """What the frozen text encoder says of every token of every caption."""
        cache, lengths = cached_text_tokens(
            self.model.text_encoder,
            self.processor.tokenizer,
            self.rows.texts,
            self.recipe.student.max_length,
            self.root,
        )
        return CachedTexts(cache["tokens"], lengths)
