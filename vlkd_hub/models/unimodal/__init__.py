"""Image encoders distilled from one teacher, and classifiers on any image encoder."""

from __future__ import annotations

from .configuration_unimodal import UnimodalImageConfig
from .modeling_unimodal import UnimodalForImageClassification, UnimodalImageModel

__all__ = ["UnimodalForImageClassification", "UnimodalImageConfig", "UnimodalImageModel"]
