"""Pictures with classes: what a classifier trains on and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import UnimodalForImageClassification

from .data import load_records
from .data.class_labels import class_labels
from .features import cached_backbone_features, iterate_pixels
from .image_batches import AUGMENT_OPTIONS, ImageCollator, NumberedRows, make_mixup, train_transform
from .phases import check_options
from .recipe import Phase
from .unimodal_models import build_image_classifier
from .unimodal_specs import ClassifierSpec
from .views import RandomViews

__all__ = ["Work", "image_work"]

_OPTIONS = (*AUGMENT_OPTIONS, "views", "validation_split", "validation_limit")


@dataclass(frozen=True)
class Work:
    """A classifier, its rows and batches, and how it is scored."""

    model: Any
    processor: Any
    rows: Any
    collator: Callable[[Any], dict[str, torch.Tensor]]
    score: Callable[[], dict[str, float]]
    encoder: str
    """Name of the encoder in the model."""


def image_work(
    phase: Phase,
    spec: ClassifierSpec,
    data: str,
    model_path: str,
    split: str,
    limit: int | None,
    root: Path,
    dtype: str,
) -> Work:
    """Build a classifier of pictures.

    With ``views`` a probe learns from cached features of that many views of each picture; otherwise pictures are
    augmented live, as Table 27 has it, for the probe too.

    Raises:
        RecipeError: an unknown option, or cached features where the encoder learns or augmentation is asked for.
        DataError: pictures without classes, or validation classes that training does not have.
    """
    options = phase.data
    check_options(options, _OPTIONS, f"data options of {phase.method!r}")
    records = load_records(data, split, limit=limit)
    classes, labels = class_labels(records)
    held = None
    if "validation_split" in options:
        held = load_records(data, options["validation_split"], limit=options.get("validation_limit"))
        class_labels(held, classes)
    model, processor = build_image_classifier(model_path, classes)
    collator: Callable[[Any], dict[str, torch.Tensor]]
    if "views" in options:
        if not spec.probe or set(options) & set(AUGMENT_OPTIONS):
            raise RecipeError(
                "views caches features of a frozen encoder: it needs student.probe: true and no augmentation option."
            )
        tower: Any = _frozen_encoder(model)
        cached = cached_backbone_features(tower, processor, records, root, views=options["views"], dtype=dtype)
        collator = _FeatureCollator(RandomViews(cached["features"]), labels)
    else:
        transform = train_transform(processor, options)
        collator = ImageCollator(records, transform, labels, make_mixup(options, len(classes)))

    def score() -> dict[str, float]:
        if held is None:
            return {}
        right = class_labels(held, classes)[1]
        return _accuracy(_logits(model, processor, held), right)

    return Work(model, processor, NumberedRows(records), collator, score, encoder="encoder.backbone")


def _frozen_encoder(model: UnimodalForImageClassification) -> SimpleNamespace:
    """What the feature cache asks of a tower; the key tells that these are means of patches."""
    config = SimpleNamespace(image_size=model.config.image_size, feature_layers="mean of patches")
    return SimpleNamespace(
        backbone=model.encoder.backbone, backbone_features=model.eval().backbone_features, config=config
    )


class _FeatureCollator:
    """Batches of cached features, a random view of each picture."""

    def __init__(self, views: RandomViews, labels: Sequence[int]) -> None:
        self.views, self.labels = views, labels

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        features = np.stack([self.views[row] for row in rows]).astype(np.float32)
        return {
            "backbone_features": torch.from_numpy(features),
            "labels": torch.tensor([self.labels[row] for row in rows]),
        }


def _logits(model: UnimodalForImageClassification, processor: Any, records: Any) -> np.ndarray:
    model.eval()
    with torch.inference_mode():
        found = [
            model(pixels.to(model.device)).logits.float().cpu() for _, pixels in iterate_pixels(records, processor)
        ]
    return torch.cat(found).numpy()


def _accuracy(logits: np.ndarray, right: Sequence[int]) -> dict[str, float]:
    """Top-1, and top-5 where there are more than five classes, each 0 to 1."""
    order = np.argsort(-logits, axis=1, kind="stable")
    hits = order == np.asarray(right)[:, None]
    found = {"validation/accuracy": float(hits[:, 0].mean())}
    return found | ({"validation/top5": float(hits[:, :5].any(axis=1).mean())} if logits.shape[1] > 5 else {})
