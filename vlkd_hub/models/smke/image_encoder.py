"""The image encoder of S-SMKE: a vision Transformer of Hugging Face or timm, or a convolutional network of timm."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from .compatibility import bare_backbone
from .configuration_smke import SmkeImageConfig
from .type_embedding import TypeEmbedding

__all__ = ["SmkeImageEncoder"]

_POOLED = ("vit", "beit", "deit", "data2vec-vision")


class SmkeImageEncoder(PreTrainedModel):
    """Turns pictures into ``[class token, patches]``, all of width ``hidden_size``.

    A convolutional network has no class token: the mean of its patches stands there. ``backbone_features`` computes
    what never changes while the backbone is frozen; a trainer caches that and calls ``forward(backbone_features=...)``.
    """

    config_class = SmkeImageConfig
    base_model_prefix = "image_encoder"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True

    def __init__(self, config: SmkeImageConfig, token_type: bool = False) -> None:
        super().__init__(config)
        self.backbone, width, self.grid = _build_backbone(config)
        self.token_type = TypeEmbedding(config.hidden_size if self.grid else width) if token_type else None
        if self.token_type is not None and not self.grid:
            self.token_type.add_to_output_of(_transformer_input(self.backbone))
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.embed: nn.Module = nn.Identity()
        self.position_embedding: nn.Parameter | None = None
        if self.grid:
            self.embed = nn.Sequential(nn.Linear(width, config.hidden_size), nn.LayerNorm(config.hidden_size))
            self.position_embedding = nn.Parameter(torch.zeros(1, config.grid_size**2, config.hidden_size))
        elif width != config.hidden_size:
            self.embed = nn.Linear(width, config.hidden_size)
        options = {"nhead": config.num_attention_heads, "dim_feedforward": 4 * config.hidden_size}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.hidden_size,
                **options,
                dropout=config.dropout,
                activation="gelu",
                norm_first=True,
                batch_first=True,
            )
            for _ in range(config.num_head_layers)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if hasattr(module, "init_non_persistent_buffers"):  # timm's; loading leaves what no file holds unset
            module.init_non_persistent_buffers()
        if isinstance(module, SmkeImageEncoder) and module.position_embedding is not None:
            nn.init.normal_(module.position_embedding, std=self.config.initializer_range)
        if isinstance(module, TypeEmbedding):
            module.reset_parameters(self.config.initializer_range)
        if isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_weight, std=self.config.initializer_range)
            nn.init.zeros_(module.in_proj_bias)

    def backbone_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Tokens straight from the backbone.

        Args:
            pixel_values: preprocessed pictures, shape ``(batch, 3, image_size, image_size)``.

        Returns:
            Shape ``(batch, tokens, backbone width)``; a Transformer's class token comes first.
        """
        if self.config.backbone_type == "hf":
            hidden = self.backbone(pixel_values=pixel_values).last_hidden_state
            norm = getattr(self.backbone, "post_layernorm", None)  # CLIP normalises only its class token inside
            return hidden if norm is None else norm(hidden)
        if not self.grid:
            return self.backbone.forward_features(pixel_values)
        wanted = self.config.feature_layers or [-1]
        stages = [layer for layer in wanted if layer != -1]
        if stages:
            final, maps = self.backbone.forward_intermediates(pixel_values, indices=stages, norm=False)
        else:
            final, maps = self.backbone.forward_features(pixel_values), []
        found = dict(zip(stages, maps, strict=True)) | {-1: final}
        resized = [_to_grid(found[layer], self.config.grid_size) for layer in wanted]
        return torch.cat(resized, dim=1).flatten(2).transpose(1, 2)  # (B, side * side, C)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        backbone_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Encode pictures, or what :meth:`backbone_features` returned for them.

        Returns:
            H_v of the last layer, shape ``(batch, 1 + patches, hidden_size)``.

        Raises:
            ValueError: neither or both inputs were given, or cached features of a Transformer whose input has a type
                embedding that may still change.
        """
        if (pixel_values is None) == (backbone_features is None):
            raise ValueError("Give exactly one of pixel_values and backbone_features.")
        if backbone_features is not None and self.token_type is not None and not self.grid:
            raise ValueError(
                "token_type='before' is added inside the backbone, so its cached output would never see it. "
                "Give pixel_values, or token_type='after'."
            )
        tokens = self.backbone_features(pixel_values) if backbone_features is None else backbone_features
        tokens = self.embed(self.feature_dropout(tokens))
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding
            tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
            if self.token_type is not None:
                tokens = self.token_type(tokens)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


def _build_backbone(config: SmkeImageConfig) -> tuple[nn.Module, int, bool]:
    """Return the backbone, the width of its tokens, and whether they are a grid without a class token."""
    if config.backbone_type == "hf":
        sub_config = AutoConfig.for_model(**(config.backbone_config or {}))
        pooler = {"add_pooling_layer": False} if sub_config.model_type in _POOLED else {}
        return (
            bare_backbone(AutoModel.from_config(sub_config, trust_remote_code=False, **pooler)),
            sub_config.hidden_size,
            False,
        )
    options = config.backbone_options or {}
    backbone = timm.create_model(config.backbone_name, pretrained=False, num_classes=0, **options)
    if hasattr(backbone, "blocks") and hasattr(backbone, "cls_token"):
        return backbone, int(backbone.num_features), False
    channels = [info["num_chs"] for info in backbone.feature_info]
    wanted = config.feature_layers or [-1]
    return backbone, sum(backbone.num_features if layer == -1 else channels[layer] for layer in wanted), True


def _transformer_input(backbone: nn.Module) -> nn.Module:
    """The module whose output enters the first Transformer layer."""
    for name in ("embeddings", "norm_pre"):
        if isinstance(getattr(backbone, name, None), nn.Module):
            return getattr(backbone, name)
    raise ValueError(
        f"{type(backbone).__name__} has neither 'embeddings' nor 'norm_pre', so it is not known where its Transformer "
        "begins; use token_type='after'."
    )


def _to_grid(feature_map: torch.Tensor, side: int) -> torch.Tensor:
    height = feature_map.shape[-1]
    if height == side:
        return feature_map
    if height % side == 0:
        return nn.functional.avg_pool2d(feature_map, height // side)
    return nn.functional.interpolate(feature_map, size=(side, side), mode="bilinear", align_corners=False)
