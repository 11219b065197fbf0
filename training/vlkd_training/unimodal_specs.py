"""What recipes of the kinds ``unimodal`` and ``classify`` say of their models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlkd_hub.errors import RecipeError

__all__ = ["ClassifierSpec", "UnimodalStudentSpec", "UnimodalTeacherSpec"]


@dataclass(frozen=True, kw_only=True)
class UnimodalTeacherSpec:
    """An encoder of one modality."""

    modality: str = "image"
    """``"image"`` or ``"text"``."""

    encoder: str = "facebook/data2vec-vision-base"
    """Pictures: ``"timm:ARCH"`` with a class token, or a Hub id / folder of any vision Transformer. Texts: a name for
    :func:`vlkd_training.encoders.load_text_encoder`."""

    pretrained: bool = True
    """``False`` takes a ``timm:`` architecture with random weights: to try the machinery, nothing is learned."""

    encoder_options: dict[str, Any] | None = None
    """``timm:`` only; more arguments of ``timm.create_model``."""

    def __post_init__(self) -> None:
        if self.modality not in ("image", "text"):
            raise RecipeError(f"modality must be 'image' or 'text', got {self.modality!r}.")


@dataclass(frozen=True, kw_only=True)
class UnimodalStudentSpec:
    """Which of the teacher's layers the student starts from."""

    layers: str | list[int] = "first_half"
    """``"first_half"``, ``"every_second"``, or numbers counted from 1."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec:
    """A classifier on an encoder."""

    modality: str = "image"
    """``"image"`` (class folders, or records with a class) or ``"text"`` (a task of GLUE)."""

    probe: bool = False
    """Linear probing: only the layer norm and the linear classifier learn."""

    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one below it; 1 for none."""

    def __post_init__(self) -> None:
        if self.modality not in ("image", "text"):
            raise RecipeError(f"modality must be 'image' or 'text', got {self.modality!r}.")
        if self.probe and self.modality == "text":
            raise RecipeError("A linear probe is for pictures; the head of a text encoder starts in its own pooler.")
        if not 0.0 < self.layer_decay <= 1.0:
            raise RecipeError(f"layer_decay must be above 0 and at most 1, got {self.layer_decay}.")
        if self.probe and self.layer_decay != 1.0:
            raise RecipeError("A probe trains no layer of the encoder, so layer_decay has no effect: leave it out.")
