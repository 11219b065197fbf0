"""Configuration of Transformer SHRe and S-SMKE: an image encoder, a text encoder and one shared encoder on both."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig

from .compatibility import PreTrainedConfig, SubConfigSpec

__all__ = ["SmkeConfig", "SmkeImageConfig"]


class SmkeImageConfig(PreTrainedConfig):
    """What the image encoder is made of.

    Args:
        backbone_type: ``"timm"`` (``backbone_name`` is a timm architecture, a ViT or a convolutional network) or
            ``"hf"`` (``backbone_config`` is the dict of a Hugging Face vision Transformer's config).
        backbone_options: timm only; more arguments of ``timm.create_model``, for example ``{"depth": 6}``.
        feature_layers: convolutional networks only; stages whose maps are concatenated, ``-1`` being the final map.
        grid_size: convolutional networks only; side of the grid of patches that the maps are brought to.
        hidden_size: width of a token that leaves the encoder; another width of the backbone is mapped to it.
        num_head_layers: Transformer layers between a convolutional backbone and the end of the encoder.
        num_attention_heads: of those layers.
        image_size: side of a picture in pixels.
        feature_dropout: rate on the channels that leave the backbone while training; a frozen network gives more of
            them than a few thousand pictures can weigh.
    """

    model_type = "vlkd_smke_image"

    backbone_type: str = "timm"
    backbone_name: str | None = "tf_efficientnet_lite0"
    backbone_config: dict[str, Any] | None = None
    backbone_options: dict[str, Any] | None = None
    feature_layers: list[int] | None = None
    grid_size: int = 7
    hidden_size: int = 384
    num_head_layers: int = 0
    num_attention_heads: int = 6
    image_size: int = 224
    dropout: float = 0.0
    feature_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.backbone_type not in ("timm", "hf"):
            raise ValueError(f"backbone_type must be 'timm' or 'hf', got {self.backbone_type!r}.")
        if self.backbone_type == "hf" and not self.backbone_config:
            raise ValueError("backbone_type='hf' needs backbone_config, the dict of a vision config with 'model_type'.")
        if self.num_head_layers and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}."
            )
        super().__post_init__(**kwargs)


class SmkeConfig(PreTrainedConfig):
    """Two encoders, a shared encoder, and what only training needs.

    Args:
        image_config: the image encoder.
        text_config: any Hugging Face text encoder.
        hidden_size: width D of the tokens that enter the shared encoder.
        shared: ``"mlp"``, the 3-layer MLP of SHRe on the class tokens; or ``"transformer"``, one block on all tokens.
        intermediate_size: width of h', the first linear layer.
        num_attention_heads: of the shared block.
        head_size: width of h''', what is held against the teacher: its classes, or the width of its features. 0 leaves
            the head out; retrieval with the shared block does not need it.
        embedding_layer: which of h' (1), h'' (2), h''' (3) is the embedding; 3 for the MLP and 2 for the block.
        contrast_layers: the layers with a contrastive loss, each with its own temperature; by default 1, 2, 3 for the
            MLP and 1, 2 for the block.
        token_type: ``None``; ``"before"`` adds a type embedding to the input of each encoder's Transformer;
            ``"after"`` to its output; ``"scaled"`` to its output through a LayerScale.
        layer_scale_init: the LayerScale at the start.
        image_summary: ``"cls"`` takes the encoder's first token as the class token; ``"mean"`` puts the mean of its
            patches there, which is what a convolutional network has.
        text_summary: likewise; ``"mean"`` for encoders that were trained with mean pooling.
        embedding_dropout: rate on the encoders' output tokens while training.
        itm_size: width of the feature fusion of image-text matching; 0 leaves it out.
        cmli_size: width of g, the projection of target-CMLI; 0 leaves it out.
        logit_scale_init_value: log of 1 / temperature at the start; ``2.6592`` is a temperature of 0.07.

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.1 to 3.2.5 and Table 29.
    """

    model_type = "vlkd_smke"
    sub_configs_defaults = {
        "image_config": SmkeImageConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }

    image_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    hidden_size: int = 384
    shared: str = "transformer"
    intermediate_size: int = 1536
    num_attention_heads: int = 6
    head_size: int = 1000
    embedding_layer: int | None = None
    contrast_layers: list[int] | None = None
    token_type: str | None = None
    layer_scale_init: float = 1e-5
    image_summary: str = "cls"
    text_summary: str = "cls"
    embedding_dropout: float = 0.0
    itm_size: int = 0
    cmli_size: int = 0
    logit_scale_init_value: float = 2.6592
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        _one_of("shared", self.shared, ("mlp", "transformer"))
        _one_of("token_type", self.token_type, (None, "before", "after", "scaled"))
        _one_of("image_summary", self.image_summary, ("cls", "mean"))
        _one_of("text_summary", self.text_summary, ("cls", "mean"))
        if self.embedding_layer is None:
            self.embedding_layer = 3 if self.shared == "mlp" else 2
        if self.contrast_layers is None:
            self.contrast_layers = [1, 2, 3] if self.shared == "mlp" else [1, 2]
        for layer in (self.embedding_layer, *self.contrast_layers):
            _one_of("a layer of the shared encoder", layer, (1, 2, 3))
            if layer == 3 and not self.head_size:
                raise ValueError("Layer 3 is the head, and head_size is 0; give its width or use layers 1 and 2.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}."
            )
        super().__post_init__(**kwargs)
        if self.image_config.hidden_size != self.hidden_size:
            raise ValueError(
                f"The image encoder's tokens are {self.image_config.hidden_size} wide and the shared encoder takes "
                f"{self.hidden_size}. Give both the same hidden_size."
            )

    @property
    def projection_dim(self) -> int:
        """Width of the embeddings of pictures and texts."""
        return {1: self.intermediate_size, 2: self.hidden_size, 3: self.head_size}[int(self.embedding_layer or 2)]


def _one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}.")
