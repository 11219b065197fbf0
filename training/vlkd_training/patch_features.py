"""Class tokens of a frozen image teacher, with patch features of a layer that the recipe chooses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from vlkd_hub.errors import RecipeError
from vlkd_hub.models.dual_encoder import VisionTower, VisionTowerConfig

from .encoders import load_vision_backbone
from .features import cached_backbone_features
from .image_quantizer_specs import QuantizerTeacherSpec
from .image_teacher import ImageTeacher, cached_teacher_outputs

__all__ = ["PatchEmbeddings", "TeacherFeatures", "cached_teacher_features"]


@dataclass(frozen=True)
class TeacherFeatures:
    """Cached features of every view of every picture.

    Attributes:
        classes: class tokens, shape ``(views, pictures, D)``.
        patches: patch features, shape ``(views, pictures, patches, width)``.
    """

    classes: Any
    patches: Any


class PatchEmbeddings(nn.Module):
    """What enters the first layer of a Transformer of timm or transformers: h_{v,0,n}, without the class token.

    Args:
        model: the teacher's.
        image_size: side of the picture in pixels.

    Raises:
        RecipeError: the model has no patch embeddings.
    """

    def __init__(self, model: nn.Module, image_size: int) -> None:
        super().__init__()
        base = getattr(model, getattr(model, "base_model_prefix", ""), model)
        if not (hasattr(base, "patch_embed") or hasattr(base, "embeddings")):
            raise RecipeError(f"patches: 0 is for Transformers, and {type(model).__name__} has no patch embeddings.")
        self.backbone = base
        self.config = SimpleNamespace(image_size=image_size, feature_layers="patch embeddings")

    def backbone_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the embeddings with their positions, shape ``(batch, patches, width)``."""
        if hasattr(self.backbone, "patch_embed"):
            tokens = self.backbone.patch_embed(pixel_values)  # type: ignore[operator]
            positions = getattr(self.backbone, "pos_embed", None)
            return tokens if positions is None else tokens + positions[:, -tokens.shape[1] :]  # type: ignore[index]
        found = self.backbone.embeddings(pixel_values)  # type: ignore[operator]
        return (found[0] if isinstance(found, tuple) else found)[:, 1:]


def cached_teacher_features(
    teacher: ImageTeacher,
    spec: QuantizerTeacherSpec,
    image_processor: Any,
    records: Any,
    *,
    root: Path,
    views: int | None = None,
    dtype: str = "float16",
) -> TeacherFeatures:
    """Ask the teacher for class token and patches of every view, or read what is cached of that.

    Args:
        teacher: with ``patches`` among its outputs where the spec takes its last layer's.
        spec: the recipe's.
        image_processor: makes pixels in the teacher's normalisation.
        records: the pictures.
        root: folder of the caches.
        views: in the place of the spec's.
        dtype: how features are kept.

    Raises:
        RecipeError: the teacher has no such layer.
    """
    options: dict[str, Any] = {"views": views or spec.views, "min_area": spec.min_crop, "dtype": dtype}
    said = cached_teacher_outputs(teacher, image_processor, records, root, **options)
    if spec.patches == -1:
        return TeacherFeatures(said["cls"], said["patches"])
    tower: Any = _stage(spec) if hasattr(teacher.model, "conv_stem") else None
    if tower is None:
        if spec.patches != 0:
            raise RecipeError(f"patches of this teacher are 0 (embeddings) or -1 (last layer), got {spec.patches}.")
        tower = PatchEmbeddings(teacher.model, spec.image_size)
    found = cached_backbone_features(tower, image_processor, records, root, **options)
    return TeacherFeatures(said["cls"], found["features"])


def _stage(spec: QuantizerTeacherSpec) -> VisionTower:
    """The convolutional teacher up to one stage, its map on a grid."""
    backbone = load_vision_backbone(spec.image)
    stages = len(backbone.module.feature_info)  # type: ignore[arg-type]
    if not 0 <= spec.patches < stages:
        raise RecipeError(f"patches names a stage from 0 to {stages - 1}, or -1 for the final map; got {spec.patches}.")
    layer = {"feature_layers": [spec.patches], "grid_size": spec.grid_size, "image_size": spec.image_size}
    tower = VisionTower(VisionTowerConfig(**(backbone.tower | layer)))
    tower.backbone.load_state_dict(backbone.module.state_dict())
    return tower
