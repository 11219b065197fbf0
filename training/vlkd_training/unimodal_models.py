"""Encoders of one modality: the teacher that a recipe names, and what a classifier is built on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from transformers import AutoConfig, AutoModel, CLIPImageProcessorPil, PreTrainedModel

from vlkd_hub.errors import RecipeError
from vlkd_hub.hub.folders import student_folder
from vlkd_hub.hub.loading import load_whole
from vlkd_hub.models import UnimodalForImageClassification, UnimodalImageConfig, UnimodalImageModel

from .build import make_image_processor
from .encoders import load_text_encoder, load_vision_backbone
from .unimodal_specs import UnimodalTeacherSpec

__all__ = ["Encoder", "build_image_classifier", "load_encoder"]

_POOLED = ("vit", "beit", "deit", "data2vec-vision")
_PACKAGED = "efficientnet-lite0"


@dataclass(frozen=True)
class Encoder:
    """An encoder with what prepares its input: an image processor or a tokenizer."""

    module: PreTrainedModel
    processor: Any


def load_encoder(spec: UnimodalTeacherSpec) -> Encoder:
    """Load the teacher of a recipe.

    Raises:
        RecipeError: random weights or options for what is not a ``timm:`` architecture.
        MissingDependencyError: the package that carries the weights is not installed.
    """
    if spec.modality == "image":
        return _load_image_encoder(spec.encoder, spec.pretrained, spec.encoder_options)
    if not spec.pretrained or spec.encoder_options:
        raise RecipeError("pretrained: false and encoder_options are for timm: image encoders only.")
    text = load_text_encoder(spec.encoder)
    text.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return Encoder(text.module, text.tokenizer)


def _load_image_encoder(name: str, pretrained: bool = True, options: dict[str, Any] | None = None) -> Encoder:
    if name == _PACKAGED:
        backbone = load_vision_backbone(name)
        model = UnimodalImageModel(UnimodalImageConfig(**backbone.tower))
        model.backbone.load_state_dict(backbone.module.state_dict())
        return Encoder(model, make_image_processor(224, "crop", backbone.image_mean, backbone.image_std))
    if name.startswith("timm:"):
        return _load_timm(name.removeprefix("timm:"), pretrained, options or {})
    if not pretrained or options:
        raise RecipeError(f"pretrained: false and encoder_options are for timm: architectures only, not for {name}.")
    path = student_folder(name)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    pooler: dict[str, Any] = {"add_pooling_layer": False} if config.model_type in _POOLED else {}
    module = load_whole(AutoModel, path, new=("pooler",), **pooler)
    side = {"height": config.image_size, "width": config.image_size}
    return Encoder(module, CLIPImageProcessorPil.from_pretrained(path, crop_size=side))


def _load_timm(arch: str, pretrained: bool, options: dict[str, Any]) -> Encoder:
    source = timm.create_model(arch, pretrained=pretrained, num_classes=0, **options)
    data = timm.data.resolve_model_data_config(source)
    side = options.get("img_size", data["input_size"][-1])
    config = UnimodalImageConfig(
        backbone_type="timm", backbone_name=arch, backbone_options=options or None, image_size=side
    )
    model = UnimodalImageModel(config)
    model.backbone.load_state_dict(source.state_dict())
    return Encoder(model, make_image_processor(side, "crop", list(data["mean"]), list(data["std"])))


def build_image_classifier(source: str | Path, classes: list[str]) -> tuple[UnimodalForImageClassification, Any]:
    """Put a fresh classifier on an encoder.

    Args:
        source: what `vlkd distill` wrote, a Hub id or folder of a vision Transformer, ``"timm:ARCH"``, or
            ``"efficientnet-lite0"``.
        classes: names, in the order of their numbers.

    Returns:
        The classifier and its image processor.
    """
    encoder = _load_image_encoder(str(source))
    labels = {"id2label": dict(enumerate(classes)), "label2id": {name: number for number, name in enumerate(classes)}}
    own = isinstance(encoder.module, UnimodalImageModel)
    if own:
        values = encoder.module.config.to_dict()
        names = ("backbone_type", "backbone_name", "backbone_config", "backbone_options", "image_size")
        config = UnimodalImageConfig(**{name: values[name] for name in names}, **labels)
    else:
        inner = encoder.module.config.to_dict()
        config = UnimodalImageConfig(
            backbone_type="hf", backbone_name=None, backbone_config=inner, image_size=inner["image_size"], **labels
        )
    model = UnimodalForImageClassification(config)
    target = model.encoder if own else model.encoder.backbone
    target.load_state_dict(encoder.module.state_dict())
    return model, encoder.processor
