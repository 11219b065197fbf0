"""What recipes of the kind ``quantize-images`` say of their teacher and their quantizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["QuantizerSpec", "QuantizerTeacherSpec"]


@dataclass(frozen=True, kw_only=True)
class QuantizerTeacherSpec:
    """The frozen image teacher, and which of its features stand for patches."""

    image: str = "efficientnet-lite0"
    """Name for :func:`vlkd_training.image_teacher.load_image_teacher`."""

    patches: int = -1
    """-1: the final map, or the last layer's patches. A Transformer: 0, the embeddings before the first layer, as
    equation (87) prints. A convolutional network: a stage as ``forward_intermediates`` counts them."""

    grid_size: int = 7
    """Side of the grid that a stage's map is brought to."""

    image_size: int = 224
    """Side of the picture in pixels."""

    resize: str = "squash"
    """``"squash"`` keeps the whole picture; ``"crop"`` keeps its proportions and cuts the centre."""

    views: int = 1
    """Cached augmented views of each picture, the plain one included."""

    min_crop: float = 0.5
    """Least area of a random crop as a part of the picture (Table 30); half of the crops are mirrored."""


@dataclass(frozen=True, kw_only=True)
class QuantizerSpec:
    """The quantizer; widths that the teacher decides are left out."""

    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ``ImageQuantizerConfig``: ``codebook_size``, ``code_size``, ``mask_probability``, ..."""
