"""The image side of every dual encoder here: a backbone (HF or timm), a pooling head and a projection.

The file is kept byte for byte the same in each model folder that needs it, since a model folder is also shipped as
remote code and so imports nothing but torch, transformers, timm and its own files. A test compares the copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from .compatibility import PreTrainedConfig, bare_backbone

__all__ = ["VisionTower", "VisionTowerConfig", "VisionTowerOutput"]


class VisionTowerConfig(PreTrainedConfig):
    """What the image tower is made of.

    Args:
        backbone_type: ``"timm"`` (``backbone_name`` is a timm architecture) or ``"hf"`` (``backbone_config`` is the
            dict of any Hugging Face vision config, ``clip_vision_model`` included).
        feature_layers: timm only; stages whose maps are concatenated per grid cell, counted as
            ``forward_intermediates`` counts them, ``-1`` being the final map after the head convolution.
        grid_size: timm only; side of the token grid, all maps are average-pooled or bilinearly resized to it.
        hidden_size: width of a token before the projection; with ``num_head_layers = 0`` and ``pool = "avg"`` the
            backbone's own width is kept and this is ignored.
        num_head_layers: transformer layers between the backbone and the pooling.
        pool: ``"avg"``, ``"attention"`` (one learned query) or ``"cls"`` (first backbone token).
        projection_dim: width d1 of the shared image-text space.
        dropout: rate on the pooled features while training the head.
    """

    model_type = "vlkd_vision_tower"

    backbone_type: str = "timm"
    backbone_name: str | None = "tf_efficientnet_lite0"
    backbone_config: dict[str, Any] | None = None
    feature_layers: list[int] | None = None
    grid_size: int = 7
    hidden_size: int = 256
    num_head_layers: int = 0
    num_attention_heads: int = 4
    pool: str = "avg"
    image_size: int = 224
    projection_dim: int = 512
    dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.backbone_type not in ("timm", "hf"):
            raise ValueError(f"backbone_type must be 'timm' or 'hf', got {self.backbone_type!r}.")
        if self.pool not in ("avg", "attention", "cls"):
            raise ValueError(f"pool must be 'avg', 'attention' or 'cls', got {self.pool!r}.")
        if self.backbone_type == "timm" and self.pool == "cls":
            raise ValueError("pool='cls' needs a backbone with a class token; with timm use 'avg' or 'attention'.")
        if self.backbone_type == "hf" and not self.backbone_config:
            raise ValueError("backbone_type='hf' needs backbone_config, the dict of a vision config with 'model_type'.")
        super().__post_init__(**kwargs)


@dataclass
class VisionTowerOutput(ModelOutput):
    """What the tower returns; nothing is normalised yet.

    Attributes:
        image_embeds: pooled picture, shape ``(batch, projection_dim)``.
        token_embeds: every location in the same space, shape ``(batch, tokens, projection_dim)``.
    """

    image_embeds: torch.FloatTensor | None = None
    token_embeds: torch.FloatTensor | None = None


class VisionHeadLayer(nn.Module):
    """One pre-norm transformer layer over the token grid."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.fc1 = nn.Linear(hidden_size, 2 * hidden_size)
        self.fc2 = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = hidden.shape
        qkv = self.qkv(self.norm1(hidden)).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, dh)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return hidden + self.fc2(nn.functional.gelu(self.fc1(self.norm2(hidden))))


class VisionPool(nn.Module):
    """Weighted mean of the tokens: uniform, or softmax weights of one learned query per head.

    The values are the tokens themselves (a slice of the width per head), so that a projected location and the
    projected picture live in one space.
    """

    def __init__(self, kind: str, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.kind = kind
        self.num_heads = num_heads
        if kind == "attention":
            self.norm = nn.LayerNorm(hidden_size)
            self.score = nn.Linear(hidden_size, num_heads)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.kind == "cls":
            return tokens[:, 0]
        if self.kind == "avg":
            return tokens.mean(dim=1)
        batch, count, width = tokens.shape
        weights = self.score(self.norm(tokens)).softmax(dim=1)  # (B, N, heads)
        split = tokens.view(batch, count, self.num_heads, width // self.num_heads)
        return (weights.unsqueeze(-1) * split).sum(dim=1).reshape(batch, width)


class VisionTower(PreTrainedModel):
    """Backbone, optional transformer head, pooling and projection to the shared space.

    ``backbone_features`` computes what never changes while the backbone is frozen; a trainer caches that and calls
    ``forward(backbone_features=...)``.
    """

    config_class = VisionTowerConfig
    base_model_prefix = "vision_tower"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__(config)
        self.backbone, width, tokens = self._build_backbone(config)
        self.embed: nn.Module = nn.Identity()
        self.position_embedding: nn.Parameter | None = None
        if config.num_head_layers or config.pool == "attention":
            self.embed = nn.Sequential(nn.Linear(width, config.hidden_size), nn.LayerNorm(config.hidden_size))
            self.position_embedding = nn.Parameter(torch.zeros(1, tokens, config.hidden_size))
            width = config.hidden_size
        heads = config.num_attention_heads
        self.layers = nn.ModuleList(VisionHeadLayer(width, heads) for _ in range(config.num_head_layers))
        self.pool = VisionPool(config.pool, width, heads)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(width, config.projection_dim, bias=False)
        self.post_init()

    @staticmethod
    def _build_backbone(config: VisionTowerConfig) -> tuple[nn.Module, int, int]:
        """Return the backbone, the width of its tokens and their number."""
        if config.backbone_type == "timm":
            backbone = timm.create_model(config.backbone_name, pretrained=False, num_classes=0)
            channels = [info["num_chs"] for info in backbone.feature_info]
            wanted = config.feature_layers or [-1]
            width = sum(backbone.num_features if layer == -1 else channels[layer] for layer in wanted)
            return backbone, width, config.grid_size**2
        sub_config = AutoConfig.for_model(**config.backbone_config)
        backbone = bare_backbone(AutoModel.from_config(sub_config, trust_remote_code=False))
        return backbone, sub_config.hidden_size, (config.image_size // sub_config.patch_size) ** 2 + 1

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VisionTower) and module.position_embedding is not None:
            nn.init.normal_(module.position_embedding, std=self.config.initializer_range)

    def backbone_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Tokens straight from the backbone.

        Args:
            pixel_values: preprocessed pictures, shape ``(batch, 3, image_size, image_size)``.

        Returns:
            Shape ``(batch, tokens, backbone width)``; with an HF backbone the class token comes first.
        """
        if self.config.backbone_type == "hf":
            hidden = self.backbone(pixel_values=pixel_values).last_hidden_state
            # CLIP normalises only its class token inside; every token needs the same layer norm before the projection.
            norm = getattr(self.backbone, "post_layernorm", None)
            return hidden if norm is None else norm(hidden)
        wanted = self.config.feature_layers or [-1]
        stages = [layer for layer in wanted if layer != -1]
        if stages:
            final, maps = self.backbone.forward_intermediates(pixel_values, indices=stages, norm=False)
        else:
            final, maps = self.backbone.forward_features(pixel_values), []
        found = dict(zip(stages, maps, strict=True)) | {-1: final}
        side = self.config.grid_size
        resized = [self._to_grid(found[layer], side) for layer in wanted]
        return torch.cat(resized, dim=1).flatten(2).transpose(1, 2)  # (B, side * side, C)

    @staticmethod
    def _to_grid(feature_map: torch.Tensor, side: int) -> torch.Tensor:
        height = feature_map.shape[-1]
        if height == side:
            return feature_map
        if height % side == 0:
            return nn.functional.avg_pool2d(feature_map, height // side)
        return nn.functional.interpolate(feature_map, size=(side, side), mode="bilinear", align_corners=False)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        backbone_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> VisionTowerOutput:
        """Embed pictures, or what :meth:`backbone_features` returned for them.

        Raises:
            ValueError: neither or both inputs were given.
        """
        if (pixel_values is None) == (backbone_features is None):
            raise ValueError("Give exactly one of pixel_values and backbone_features.")
        tokens = self.backbone_features(pixel_values) if backbone_features is None else backbone_features
        tokens = self.embed(tokens)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding
        for layer in self.layers:
            tokens = layer(tokens)
        image_embeds = self.projection(self.dropout(self.pool(tokens)))
        locations = tokens[:, 1:] if self.config.backbone_type == "hf" else tokens
        return VisionTowerOutput(image_embeds=image_embeds, token_embeds=self.projection(locations))
