"""The aligned CLIP-style teacher: `vlkd align` writes it, `vlkd distill` reads it."""

from __future__ import annotations

from .configuration_dual_encoder import DualEncoderConfig
from .modeling_dual_encoder import DualEncoderModel, DualEncoderOutput
from .processing_dual_encoder import DualEncoderProcessor
from .vision_tower import VisionTower, VisionTowerConfig

__all__ = [
    "DualEncoderConfig",
    "DualEncoderModel",
    "DualEncoderOutput",
    "DualEncoderProcessor",
    "VisionTower",
    "VisionTowerConfig",
]
