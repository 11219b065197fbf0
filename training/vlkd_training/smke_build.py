"""Puts an S-SMKE student together from two pretrained encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import timm
from torch import nn
from transformers import AutoConfig, AutoModel

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import SmkeConfig, SmkeModel, SmkeProcessor
from vlkd_hub.models.smke import SmkeImageConfig

from .build import make_image_processor
from .encoders import TextEncoder, load_image_classifier, load_text_encoder, load_vision_backbone
from .layer_choice import choose_layers, cut_layers, kept_weights
from .recipe import suggestion
from .smke_specs import SmkeStudentSpec
from .vocabulary import trim_vocabulary

__all__ = ["build_smke"]


def build_smke(spec: SmkeStudentSpec, texts: Sequence[str], **fields: Any) -> tuple[SmkeModel, SmkeProcessor]:
    """Make the student: pretrained encoders, cut to the layers that the spec names, and a new shared encoder.

    Args:
        spec: the recipe's student.
        texts: the training captions, whose word pieces stay where the vocabulary is trimmed.
        **fields: of ``SmkeConfig``, what the caller knows (the width of the head); the spec's own win.

    Raises:
        RecipeError: a field that no config has, or layers that cannot be kept.
    """
    text = load_text_encoder(spec.text_encoder)
    encoder, tokenizer = text.module, text.tokenizer
    if spec.text_layers is not None:
        encoder = cut_layers(encoder, spec.text_layers)
    if spec.vocabulary is not None:
        if isinstance(spec.vocabulary, str) and spec.vocabulary != "corpus":
            raise RecipeError(f"vocabulary must be 'corpus', a number of pieces, or absent; got {spec.vocabulary!r}.")
        size = spec.vocabulary if isinstance(spec.vocabulary, int) else None
        tokenizer = trim_vocabulary(encoder, tokenizer, texts, size)
    known = fields | _checked(spec.model, SmkeConfig, "model")
    width = known.setdefault("hidden_size", encoder.config.hidden_size)
    known.setdefault("intermediate_size", 4 * width)
    known.setdefault("num_attention_heads", max(1, width // 64))
    backbone, image, mean, std = _image_encoder(spec, width)
    model = SmkeModel(SmkeConfig(image_config=image, text_config=encoder.config, **known))
    model.image_encoder.backbone.load_state_dict(backbone.state_dict())
    model.text_encoder.load_state_dict(encoder.state_dict())
    processor = SmkeProcessor(
        make_image_processor(spec.image_size, spec.resize, mean, std), _tokenizer(text, tokenizer, spec.max_length)
    )
    return model, processor


def _tokenizer(text: TextEncoder, tokenizer: Any, max_length: int) -> Any:
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    limit = getattr(text.module.config, "max_position_embeddings", max_length)
    tokenizer.model_max_length = min(max_length, limit)
    return tokenizer


def _image_encoder(spec: SmkeStudentSpec, width: int) -> tuple[nn.Module, SmkeImageConfig, list[float], list[float]]:
    """The backbone with its weights, its config, and the normalisation of its pixels."""
    name, fields = spec.image_encoder, _checked(spec.image, SmkeImageConfig, "image")
    fields = {"hidden_size": width, "image_size": spec.image_size} | fields
    if name.startswith("timm:") or name == "efficientnet-lite0":
        module, mean, std = load_image_classifier(name)
        module.reset_classifier(0)
        architecture = "tf_efficientnet_lite0" if name == "efficientnet-lite0" else name.removeprefix("timm:")
        options: dict[str, Any] = {}
        if spec.image_layers is not None:
            module, options = _cut_timm(module, architecture, spec.image_layers)
        config = SmkeImageConfig(backbone_name=architecture, backbone_options=options or None, **fields)
        return module, config, mean, std
    found = load_vision_backbone(name)
    module = found.module
    if spec.image_layers is not None:
        module = cut_layers(module, spec.image_layers)  # type: ignore[arg-type]
    sub_config = module.config.to_dict()
    kind = AutoConfig.for_model(**sub_config)
    bare = AutoModel.from_config(kind, trust_remote_code=False, **_without_pooler(kind.model_type))
    bare.load_state_dict({key: value for key, value in module.state_dict().items() if key in bare.state_dict()})
    config = SmkeImageConfig(backbone_type="hf", backbone_name=None, backbone_config=sub_config, **fields)
    return bare, config, found.image_mean, found.image_std


def _without_pooler(model_type: str) -> dict[str, bool]:
    return {"add_pooling_layer": False} if model_type in ("vit", "beit", "deit", "data2vec-vision") else {}


def _cut_timm(module: nn.Module, architecture: str, choice: str | list[int]) -> tuple[nn.Module, dict[str, Any]]:
    """Keep some blocks of a vision Transformer of timm."""
    if not hasattr(module, "blocks") or not hasattr(module, "cls_token"):
        raise RecipeError(f"image_layers: {architecture} has no Transformer layers to choose from; leave it out.")
    chosen = choose_layers(choice, len(list(module.blocks.children())))
    small = timm.create_model(architecture, pretrained=False, num_classes=0, depth=len(chosen))
    small.load_state_dict(kept_weights(module, "blocks", chosen))
    return small, {"depth": len(chosen)}


def _checked(values: dict[str, Any], config: type, where: str) -> dict[str, Any]:
    """Refuse fields that a config would silently keep and nothing would read."""
    known = [item.name for item in dataclasses.fields(config)]
    for key in values:
        if key not in known:
            raise RecipeError(f"student: {where}: there is no field {key!r}.{suggestion(key, known)}")
    return dict(values)
