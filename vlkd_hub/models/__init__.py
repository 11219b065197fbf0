"""Every model of vlkd-hub. Importing this package makes transformers' Auto classes know them.

It needs torch and transformers; ``import vlkd_hub`` alone does not.
"""
from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from .dual_encoder import DualEncoderConfig, DualEncoderModel, DualEncoderProcessor
from .vlkd import VlkdConfig, VlkdForConditionalGeneration, VlkdModel, VlkdProcessor

__all__ = [
    "DualEncoderConfig",
    "DualEncoderModel",
    "DualEncoderProcessor",
    "VlkdConfig",
    "VlkdForConditionalGeneration",
    "VlkdModel",
    "VlkdProcessor",
    "register",
]


def register() -> None:
    """Tell transformers' Auto classes about the models here, and make saved folders carry their code.

    Raises:
        ValueError: another class already holds one of the model types.
    """
    AutoConfig.register("vlkd_dual_encoder", DualEncoderConfig, exist_ok=True)
    AutoModel.register(DualEncoderConfig, DualEncoderModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(DualEncoderConfig, DualEncoderModel, exist_ok=True)
    AutoProcessor.register(DualEncoderConfig, DualEncoderProcessor, exist_ok=True)
    AutoConfig.register("vlkd", VlkdConfig, exist_ok=True)
    AutoModel.register(VlkdConfig, VlkdModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(VlkdConfig, VlkdModel, exist_ok=True)
    AutoModelForImageTextToText.register(VlkdConfig, VlkdForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(VlkdConfig, VlkdProcessor, exist_ok=True)


register()
