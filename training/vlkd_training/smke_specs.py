"""What a recipe of kind ``smke`` says of its student and its teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SmkeStudentSpec", "SmkeTeacherSpec"]


@dataclass(frozen=True, kw_only=True)
class SmkeStudentSpec:
    """Two encoders, cut and put under one shared encoder."""

    image_encoder: str = "efficientnet-lite0"
    """``efficientnet-lite0``, ``timm:ARCH``, or Hub id / folder of a vision Transformer."""

    image_layers: str | list[int] | None = None
    """``first_half``, ``every_second`` or numbers from 1, of a Transformer's layers; all where left out."""

    image: dict[str, Any] = field(default_factory=dict)
    """Further fields of ``SmkeImageConfig``: ``feature_layers``, ``grid_size``, ``num_head_layers``."""

    text_encoder: str = "all-minilm-l6-v2"
    text_layers: str | list[int] | None = None
    """As ``image_layers``."""

    vocabulary: int | str | None = None
    """``"corpus"`` keeps the word pieces that the training texts use, with every single character; a number fills up
    to that many pieces; all where left out."""

    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ``SmkeConfig``: ``shared``, ``token_type``, ``intermediate_size``, ``head_size``, ..."""

    image_size: int = 224
    """Side of the picture in pixels."""

    resize: str = "squash"
    """``"squash"`` keeps the whole picture; ``"crop"`` keeps its proportions and cuts the centre."""

    max_length: int = 64
    """Tokens of a text, special ones included (Table 29)."""

    views: int = 1
    """Cached views of each training picture where its backbone is frozen; the first one is the plain picture."""

    min_crop: float = 0.9
    """Least area of a random crop as a part of the picture (Table 29: 0.9); smaller ones lose what the text says."""


@dataclass(frozen=True, kw_only=True)
class SmkeTeacherSpec:
    """The unimodal image teacher, frozen."""

    image: str = "efficientnet-lite0"
    """``efficientnet-lite0``, ``timm:ARCH``, or Hub id / folder of a vision Transformer, with a classifier where the
    target is its classes."""

    quantizer: str | None = None
    """Folder of an image quantizer, for the target ``codes``."""
