"""An image encoder that tells every layer's output, and the classifier that is fine-tuned on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import timm
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput

from .compatibility import bare_backbone
from .configuration_unimodal import UnimodalImageConfig

__all__ = ["UnimodalForImageClassification", "UnimodalImageModel"]

_POOLED = ("vit", "beit", "deit", "data2vec-vision")


class UnimodalPreTrainedModel(PreTrainedModel):
    """What both models here share."""

    config_class = UnimodalImageConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if hasattr(module, "init_non_persistent_buffers"):  # timm's; loading leaves what no file holds unset
            module.init_non_persistent_buffers()


class UnimodalImageModel(UnimodalPreTrainedModel):
    """Turns pictures into tokens: ``[class token, patches]`` of a Transformer, the cells of a convolutional network.

    Attributes:
        width: of a token.
        num_prefix_tokens: tokens before the patches: 1 for a class token, 0 for a convolutional network.
    """

    def __init__(self, config: UnimodalImageConfig) -> None:
        super().__init__(config)
        self.backbone, self.width, self.num_prefix_tokens = _build_backbone(config)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, output_hidden_states: bool = False, **kwargs: Any) -> BaseModelOutput:
        """Encode pictures.

        Args:
            pixel_values: shape ``(batch, 3, image_size, image_size)``.
            output_hidden_states: also return what enters the first Transformer block and what leaves each one.

        Returns:
            ``last_hidden_state`` after the backbone's closing norm, shape ``(batch, tokens, width)``, and
            ``hidden_states``: 1 + layers tensors of that shape, as the models of transformers have them.

        Raises:
            ValueError: hidden states are wanted of a convolutional network.
        """
        if self.config.backbone_type == "hf":
            found = self.backbone(pixel_values=pixel_values, output_hidden_states=output_hidden_states)
            norm = getattr(self.backbone, "post_layernorm", None)  # CLIP normalises only its class token inside
            last = found.last_hidden_state if norm is None else norm(found.last_hidden_state)
            return BaseModelOutput(last_hidden_state=last, hidden_states=found.hidden_states)
        blocks = getattr(self.backbone, "blocks", None) if self.num_prefix_tokens else None
        if output_hidden_states and blocks is None:
            raise ValueError(f"{self.config.backbone_name} has no Transformer blocks, so no layers to tell.")
        with _recorded(blocks if output_hidden_states else None) as layers:
            found = self.backbone.forward_features(pixel_values)
        if found.dim() == 4:
            found = found.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, H * W, C)
        return BaseModelOutput(last_hidden_state=found, hidden_states=tuple(layers) if output_hidden_states else None)


class UnimodalForImageClassification(UnimodalPreTrainedModel):
    """The mean of the patches, layer norm, and a linear classifier; the class token is left out.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.3 and Code 1.
    """

    def __init__(self, config: UnimodalImageConfig) -> None:
        super().__init__(config)
        self.encoder = UnimodalImageModel(config)
        self.norm = nn.LayerNorm(self.encoder.width)
        self.classifier = nn.Linear(self.encoder.width, config.num_labels)
        self.post_init()

    def backbone_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Mean of the patches, what a linear probe learns from, shape ``(batch, 1, width)``."""
        tokens = self.encoder(pixel_values).last_hidden_state
        return tokens[:, self.encoder.num_prefix_tokens :].mean(dim=1, keepdim=True)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        backbone_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        """Score classes for pictures, or for what :meth:`backbone_features` returned for them.

        Args:
            pixel_values: shape ``(batch, 3, image_size, image_size)``.
            backbone_features: shape ``(batch, 1, width)``.
            labels: numbers of the classes, shape ``(batch,)``, for a cross-entropy.

        Returns:
            ``logits`` of shape ``(batch, num_labels)``, and ``loss`` where labels are given.

        Raises:
            ValueError: neither or both inputs were given.
        """
        if (pixel_values is None) == (backbone_features is None):
            raise ValueError("Give exactly one of pixel_values and backbone_features.")
        features = self.backbone_features(pixel_values) if backbone_features is None else backbone_features
        logits = self.classifier(self.norm(features[:, 0]))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def _build_backbone(config: UnimodalImageConfig) -> tuple[nn.Module, int, int]:
    """Return the backbone, the width of its tokens, and how many of them come before the patches."""
    if config.backbone_type == "timm":
        options = config.backbone_options or {}
        backbone: Any = timm.create_model(config.backbone_name, pretrained=False, num_classes=0, **options)
        return backbone, int(backbone.num_features), int(getattr(backbone, "num_prefix_tokens", 0))
    sub_config = AutoConfig.for_model(**(config.backbone_config or {}))
    pooler = {"add_pooling_layer": False} if sub_config.model_type in _POOLED else {}
    backbone = bare_backbone(AutoModel.from_config(sub_config, trust_remote_code=False, **pooler))
    prefix = 1 + (sub_config.model_type == "deit") + (getattr(sub_config, "num_register_tokens", None) or 0)
    return backbone, sub_config.hidden_size, prefix


@contextlib.contextmanager
def _recorded(blocks: nn.Module | None) -> Iterator[list[torch.Tensor]]:
    """Collect what enters the first block and what leaves each; nothing for ``None``."""
    layers: list[torch.Tensor] = []
    modules = [] if blocks is None else list(blocks.children())
    handles = [module.register_forward_hook(lambda _, __, found: layers.append(found)) for module in modules]
    if modules:
        handles.append(modules[0].register_forward_pre_hook(lambda _, given: layers.append(given[0])))
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
