"""Every model of vlkd-hub. Importing this package makes transformers' Auto classes know them.

It needs torch and transformers; ``import vlkd_hub`` alone does not.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from .dual_encoder import DualEncoderConfig, DualEncoderModel, DualEncoderProcessor
from .smke import ImageQuantizerConfig, ImageQuantizerModel, SmkeConfig, SmkeModel, SmkeProcessor
from .unimodal import UnimodalForImageClassification, UnimodalImageConfig, UnimodalImageModel
from .vlkd import (
    VlkdConfig,
    VlkdForConditionalGeneration,
    VlkdForSequenceClassification,
    VlkdModel,
    VlkdProcessor,
)

__all__ = [
    "DualEncoderConfig",
    "DualEncoderModel",
    "DualEncoderProcessor",
    "ImageQuantizerConfig",
    "ImageQuantizerModel",
    "SmkeConfig",
    "SmkeModel",
    "SmkeProcessor",
    "UnimodalForImageClassification",
    "UnimodalImageConfig",
    "UnimodalImageModel",
    "VlkdConfig",
    "VlkdForConditionalGeneration",
    "VlkdForSequenceClassification",
    "VlkdModel",
    "VlkdProcessor",
    "enable_remote_code",
    "has_remote_code",
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
    AutoConfig.register("vlkd_image_quantizer", ImageQuantizerConfig, exist_ok=True)
    AutoModel.register(ImageQuantizerConfig, ImageQuantizerModel, exist_ok=True)
    AutoConfig.register("vlkd_smke", SmkeConfig, exist_ok=True)
    AutoModel.register(SmkeConfig, SmkeModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(SmkeConfig, SmkeModel, exist_ok=True)
    AutoProcessor.register(SmkeConfig, SmkeProcessor, exist_ok=True)
    AutoConfig.register("vlkd_unimodal_image", UnimodalImageConfig, exist_ok=True)
    AutoModel.register(UnimodalImageConfig, UnimodalImageModel, exist_ok=True)
    AutoModelForImageClassification.register(UnimodalImageConfig, UnimodalForImageClassification, exist_ok=True)
    AutoConfig.register("vlkd", VlkdConfig, exist_ok=True)
    AutoModel.register(VlkdConfig, VlkdModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(VlkdConfig, VlkdModel, exist_ok=True)
    AutoModelForSequenceClassification.register(VlkdConfig, VlkdForSequenceClassification, exist_ok=True)
    AutoModelForImageTextToText.register(VlkdConfig, VlkdForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(VlkdConfig, VlkdProcessor, exist_ok=True)


def has_remote_code(config: Any) -> bool:
    """Whether a config is one of this package's, so that its model's code must travel with the weights."""
    return any(isinstance(config, entry[0]) for entry in _REMOTE_CODE)


def enable_remote_code(config: Any) -> None:
    """Make ``save_pretrained`` put the model's own files and a whole ``auto_map`` beside the weights.

    transformers alone would note only the head that is saved; here every Auto class finds its head again in a process
    that has never heard of this package.

    Args:
        config: of the model about to be saved; its ``auto_map`` is set.

    Raises:
        ValueError: the config is not one of this package's.
    """
    found = next((entry for entry in _REMOTE_CODE if isinstance(config, entry[0])), None)
    if found is None:
        raise ValueError(f"{type(config).__name__} is not a config of vlkd_hub.models.")
    config_class, heads, processor_class = found
    config_class.register_for_auto_class()
    if processor_class is not None:
        processor_class.register_for_auto_class()
    for model_class in heads.values():
        model_class.register_for_auto_class("AutoModel")
    config.auto_map = {head: f"{kind.__module__.split('.')[-1]}.{kind.__name__}" for head, kind in heads.items()}


_REMOTE_CODE: tuple[tuple[type, dict[str, type], type | None], ...] = (
    (
        DualEncoderConfig,
        {"AutoModel": DualEncoderModel, "AutoModelForZeroShotImageClassification": DualEncoderModel},
        DualEncoderProcessor,
    ),
    (ImageQuantizerConfig, {"AutoModel": ImageQuantizerModel}, None),
    (
        SmkeConfig,
        {"AutoModel": SmkeModel, "AutoModelForZeroShotImageClassification": SmkeModel},
        SmkeProcessor,
    ),
    (
        UnimodalImageConfig,
        {"AutoModel": UnimodalImageModel, "AutoModelForImageClassification": UnimodalForImageClassification},
        None,
    ),
    (
        VlkdConfig,
        {
            "AutoModelForImageTextToText": VlkdForConditionalGeneration,
            "AutoModelForZeroShotImageClassification": VlkdModel,
            "AutoModel": VlkdModel,
        },
        VlkdProcessor,
    ),
)

register()
