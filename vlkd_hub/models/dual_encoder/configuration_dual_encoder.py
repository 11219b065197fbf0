"""Configuration of the CLIP-style dual encoder that `vlkd align` makes from two unimodal encoders."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig

from .compatibility import PreTrainedConfig, SubConfigSpec
from .vision_tower import VisionTowerConfig

__all__ = ["DualEncoderConfig"]


class DualEncoderConfig(PreTrainedConfig):
    """Two towers and a temperature.

    Args:
        vision_config: the image tower.
        text_config: any Hugging Face text encoder.
        projection_dim: width d1 of the shared space; the image tower's must be the same.
        text_pool: how the text tower's tokens become one vector: ``"mean"`` over the attention mask, or ``"cls"``.
        text_dropout: dropout rate on the pooled text vector while the projection trains.
        logit_scale_init_value: log of 1 / temperature at the start; ``2.6592`` is a temperature of 0.07.
    """

    model_type = "vlkd_dual_encoder"
    sub_configs_defaults = {
        "vision_config": VisionTowerConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }

    vision_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    projection_dim: int = 512
    text_pool: str = "mean"
    text_dropout: float = 0.0
    logit_scale_init_value: float = 2.6592
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_pool not in ("mean", "cls"):
            raise ValueError(f"text_pool must be 'mean' or 'cls', got {self.text_pool!r}.")
        super().__post_init__(**kwargs)
        if self.vision_config.projection_dim != self.projection_dim:
            raise ValueError(
                f"The image tower projects to {self.vision_config.projection_dim} dimensions and the shared space has "
                f"{self.projection_dim}. Give both the same projection_dim."
            )
