"""Transformer SHRe and S-SMKE: two encoders, one shared encoder, embeddings that a unimodal teacher aligned."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_smke import SmkeConfig
from .image_encoder import SmkeImageEncoder
from .matching import MatchingHeads, sample_negatives
from .outputs_smke import SmkeOutput
from .shared_encoder import SharedOutput, make_shared_encoder
from .type_embedding import TypeEmbedding

__all__ = ["SmkeModel"]

_BERT_LIKE = ("bert", "roberta", "xlm-roberta")


class SmkeModel(PreTrainedModel):
    """Image encoder, text encoder, shared encoder; each modality passes by itself.

    ``image_encoder`` and ``text_encoder`` are the unimodal encoders and can be used alone. ``get_image_features`` and
    ``get_text_features`` answer as ``transformers.CLIPModel`` does: vectors in ``pooler_output``, not normalised.

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.1 to 3.2.5.
    """

    config_class = SmkeConfig
    base_model_prefix = "smke"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    _supports_sdpa = True

    def __init__(self, config: SmkeConfig) -> None:
        super().__init__(config)
        before = config.token_type == "before"
        self.image_encoder = SmkeImageEncoder(config.image_config, token_type=before)
        pooler = {"add_pooling_layer": False} if config.text_config.model_type in _BERT_LIKE else {}
        self.text_encoder = AutoModel.from_config(config.text_config, trust_remote_code=False, **pooler)
        text_width, width = config.text_config.hidden_size, config.hidden_size
        self.text_embed: nn.Module = nn.Identity() if text_width == width else nn.Linear(text_width, width)
        self.image_type = TypeEmbedding(width) if config.token_type in ("after", "scaled") else None
        self.text_type = TypeEmbedding(text_width if before else width) if config.token_type else None
        self.type_scale = nn.Parameter(torch.empty(width)) if config.token_type == "scaled" else None
        if before and self.text_type is not None:
            self.text_type.add_to_output_of(self.text_encoder.embeddings)
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.shared_encoder = make_shared_encoder(config)
        self.matching = MatchingHeads(config) if config.itm_size else None
        self.cmli_projection = nn.Linear(config.head_size, config.cmli_size) if config.cmli_size else None
        self.logit_scale = nn.Parameter(torch.empty(len(config.contrast_layers)))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TypeEmbedding):
            module.reset_parameters(self.config.initializer_range)
        if hasattr(module, "init_non_persistent_buffers"):  # timm's; loading leaves what no file holds unset
            module.init_non_persistent_buffers()
        if isinstance(module, SmkeModel):
            nn.init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            if module.type_scale is not None:
                nn.init.constant_(module.type_scale, self.config.layer_scale_init)

    def without_training_parts(self) -> SmkeModel:
        """Drop in place what no task needs: the head where the embedding comes before it, matching and g.

        The thesis discards its head after training (section 3.2.1.3).
        """
        if self.config.embedding_layer != 3:
            self.shared_encoder.head = self.shared_encoder.norm2 = None
            self.config.head_size = 0
            self._keep_contrast_layers([layer for layer in self.config.contrast_layers if layer != 3])
        self.matching = self.cmli_projection = None
        self.config.itm_size = self.config.cmli_size = 0
        return self

    def _keep_contrast_layers(self, layers: list[int]) -> None:
        kept = [self.config.contrast_layers.index(layer) for layer in layers]
        self.logit_scale = nn.Parameter(self.logit_scale.detach()[kept].clone())
        self.config.contrast_layers = layers

    def encode_image(
        self,
        pixel_values: torch.Tensor | None = None,
        image_backbone_features: torch.Tensor | None = None,
        tokens: bool = False,
        attention: bool = False,
    ) -> SharedOutput:
        """Pass pictures through their encoder and the shared one."""
        hidden = self.image_encoder(pixel_values=pixel_values, backbone_features=image_backbone_features)
        if self.config.image_summary == "mean" and not self.image_encoder.grid:
            hidden = torch.cat([hidden[:, 1:].mean(dim=1, keepdim=True), hidden[:, 1:]], dim=1)
        if self.image_type is not None:
            hidden = self.image_type(hidden, self.type_scale)
        return self.shared_encoder(self.dropout(hidden), tokens=tokens, attention=attention)

    def encode_text(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        tokens: bool = False,
        attention: bool = False,
    ) -> SharedOutput:
        """Pass texts, or what the text encoder said of them, through their encoder and the shared one.

        Raises:
            ValueError: neither or both inputs were given.
        """
        if (input_ids is None) == (text_hidden_states is None):
            raise ValueError("Give exactly one of input_ids and text_hidden_states.")
        if text_hidden_states is None:
            text_hidden_states = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        hidden = text_hidden_states
        if self.config.text_summary == "mean":
            hidden = torch.cat([_masked_mean(hidden, attention_mask), hidden[:, 1:]], dim=1)
        if self.config.shared == "mlp" and not tokens:
            hidden = hidden[:, :1]  # the MLP reads no other token
        hidden = self.text_embed(hidden)
        if self.text_type is not None and self.config.token_type != "before":
            hidden = self.text_type(hidden, self.type_scale)
        return self.shared_encoder(self.dropout(hidden), attention_mask, tokens=tokens, attention=attention)

    def embedding_of(self, output: SharedOutput) -> torch.Tensor:
        """The layer that search uses, shape ``(batch, projection_dim)``, not normalised."""
        return getattr(output, f"layer{self.config.embedding_layer}")

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Embed pictures, shape ``(batch, 3, H, W)``: ``pooler_output`` of shape ``(batch, projection_dim)``."""
        return BaseModelOutputWithPooling(pooler_output=self.embedding_of(self.encode_image(pixel_values)))

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Embed texts, shape ``(batch, length)``: ``pooler_output`` of shape ``(batch, projection_dim)``."""
        return BaseModelOutputWithPooling(pooler_output=self.embedding_of(self.encode_text(input_ids, attention_mask)))

    def get_image_tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Every patch where words are compared with it, unit length, shape ``(batch, patches, width)``.

        With target-CMLI that is g(h'''), the space in which training matched them; else h''.
        """
        return self.comparable(self.encode_image(pixel_values, tokens=True))[:, 1:]

    def get_text_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Every token of a text in the same space, class token and padding included, ``(batch, length, width)``."""
        return self.comparable(self.encode_text(input_ids, attention_mask, tokens=True))

    def get_image_attention(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Self-attention of the shared block, mean over heads, shape ``(batch, 1 + patches, 1 + patches)``.

        Raises:
            ValueError: the shared encoder is an MLP, which has none.
        """
        if self.config.shared != "transformer":
            raise ValueError("Only a shared Transformer attends; this model's shared encoder is an MLP.")
        weights = self.encode_image(pixel_values, tokens=True, attention=True).attention
        assert weights is not None
        return weights

    def comparable(self, output: SharedOutput) -> torch.Tensor:
        """Every token where words and patches are compared, see :meth:`get_image_tokens`; class token included."""
        reduced = self.cmli_projection is not None and output.tokens3 is not None
        tokens = self.cmli_projection(output.tokens3) if reduced else output.tokens2
        return nn.functional.normalize(tokens.float(), dim=-1)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_backbone_features: torch.Tensor | None = None,
        text_hidden_states: torch.Tensor | None = None,
        image_ids: torch.Tensor | None = None,
        teacher_patches: torch.Tensor | None = None,
        tokens: bool = False,
        matching: str | None = None,
        **kwargs: Any,
    ) -> SmkeOutput:
        """Score pictures against texts.

        Args:
            input_ids: ``(texts, length)``.
            pixel_values: ``(pictures, 3, H, W)``.
            attention_mask: ``(texts, length)``.
            image_backbone_features: cached output of the frozen backbone, instead of ``pixel_values``.
            text_hidden_states: cached output of the frozen text encoder, instead of ``input_ids``.
            image_ids: which picture each row shows, for the negatives of image-text matching.
            teacher_patches: the teacher's patches, to be projected by g, ``(pictures, patches, head_size)``.
            tokens: give h''' of every token too.
            matching: ``"random"`` or ``"hard"`` negatives for image-text matching; needs ``itm_size``.

        Raises:
            ValueError: an input is missing or given twice, or a part is asked for that the config leaves out.
        """
        image = self.encode_image(pixel_values, image_backbone_features, tokens)
        text = self.encode_text(input_ids, attention_mask, text_hidden_states, tokens)
        image_embeds = nn.functional.normalize(self.embedding_of(image).float(), dim=-1)
        text_embeds = nn.functional.normalize(self.embedding_of(text).float(), dim=-1)
        logit_scale = self.logit_scale.exp()
        logits_per_image = self._scale_of_embedding(logit_scale) * image_embeds @ text_embeds.t()
        return SmkeOutput(
            logits_per_image=logits_per_image,
            logits_per_text=logits_per_image.t(),
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            logit_scale=logit_scale,
            image_layer1=image.layer1,
            image_layer2=image.layer2,
            image_layer3=image.layer3,
            text_layer1=text.layer1,
            text_layer2=text.layer2,
            text_layer3=text.layer3,
            image_tokens3=None if image.tokens3 is None else image.tokens3[:, 1:],
            text_tokens3=text.tokens3,
            **self._matched(image, text, logits_per_image, image_ids, matching),
            **self._reduced(text, teacher_patches),
        )

    def _scale_of_embedding(self, logit_scale: torch.Tensor) -> torch.Tensor | float:
        layers = self.config.contrast_layers
        return logit_scale[layers.index(self.config.embedding_layer)] if self.config.embedding_layer in layers else 1.0

    def _matched(
        self,
        image: SharedOutput,
        text: SharedOutput,
        similarity: torch.Tensor,
        image_ids: torch.Tensor | None,
        matching: str | None,
    ) -> dict[str, torch.Tensor]:
        if matching is None:
            return {}
        if self.matching is None or matching not in ("random", "hard"):
            raise ValueError(
                f"matching={matching!r}: it is 'random' or 'hard', of a model whose config has itm_size > 0 "
                f"(here {self.config.itm_size})."
            )
        texts, images = sample_negatives(similarity, image_ids, hard=matching == "hard")
        own = torch.arange(len(texts), device=texts.device)
        image_rows, text_rows = torch.cat([own, own, images]), torch.cat([own, texts, own])
        first, second = self.matching(
            (image.layer1[image_rows], image.layer2[image_rows]), (text.layer1[text_rows], text.layer2[text_rows])
        )
        return {"itm_logits1": first, "itm_logits2": second}

    def _reduced(self, text: SharedOutput, teacher_patches: torch.Tensor | None) -> dict[str, torch.Tensor]:
        if teacher_patches is None:
            return {}
        if self.cmli_projection is None or text.tokens3 is None:
            raise ValueError("teacher_patches are projected by g: give the config cmli_size > 0 and ask for tokens.")
        return {
            "text_reduced": self.cmli_projection(text.tokens3),
            "teacher_reduced": self.cmli_projection(teacher_patches),
        }


def _masked_mean(hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over tokens, shape ``(batch, 1, width)``."""
    if attention_mask is None:
        return hidden.mean(dim=1, keepdim=True)
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp(min=1.0)
