"""Configuration of an image encoder of timm or Hugging Face, alone or under a classifier."""

from __future__ import annotations

from typing import Any

from .compatibility import PreTrainedConfig

__all__ = ["UnimodalImageConfig"]


class UnimodalImageConfig(PreTrainedConfig):
    """What the image encoder is made of; classes are ``num_labels``, ``id2label`` and ``label2id`` as everywhere.

    Args:
        backbone_type: ``"timm"`` (``backbone_name`` is a timm architecture, a ViT or a convolutional network) or
            ``"hf"`` (``backbone_config`` is the dict of a Hugging Face vision Transformer's config).
        backbone_options: timm only; more arguments of ``timm.create_model``, for example ``{"depth": 6}``.
        image_size: side of a picture in pixels.
    """

    model_type = "vlkd_unimodal_image"

    backbone_type: str = "timm"
    backbone_name: str | None = "vit_base_patch16_224"
    backbone_config: dict[str, Any] | None = None
    backbone_options: dict[str, Any] | None = None
    image_size: int = 224
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.backbone_type not in ("timm", "hf"):
            raise ValueError(f"backbone_type must be 'timm' or 'hf', got {self.backbone_type!r}.")
        if self.backbone_type == "hf" and not self.backbone_config:
            raise ValueError("backbone_type='hf' needs backbone_config, the dict of a vision config with 'model_type'.")
        super().__post_init__(**kwargs)
