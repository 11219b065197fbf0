"""A CLIP-style dual encoder over any vision backbone and any Hugging Face text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from .configuration_dual_encoder import DualEncoderConfig
from .vision_tower import VisionTower

__all__ = ["DualEncoderModel", "DualEncoderOutput"]


@dataclass
class DualEncoderOutput(ModelOutput):
    """Scores of every picture against every text.

    Attributes:
        logits_per_image: shape ``(pictures, texts)``, cosine divided by the temperature.
        logits_per_text: its transpose.
        image_embeds: L2-normalised, shape ``(pictures, projection_dim)``.
        text_embeds: L2-normalised, shape ``(texts, projection_dim)``.
        logit_scale: 1 / temperature, a scalar.
    """

    logits_per_image: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    logit_scale: torch.FloatTensor | None = None


class DualEncoderModel(PreTrainedModel):
    """Image tower, text tower, a projection each, one learnable temperature.

    ``get_image_features`` and ``get_text_features`` answer as ``transformers.CLIPModel`` does: projected vectors in
    ``pooler_output``, not normalised.
    """

    config_class = DualEncoderConfig
    base_model_prefix = "dual_encoder"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    _supports_sdpa = True

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__(config)
        self.vision_tower = VisionTower(config.vision_config)
        pooler = _without_pooler(config.text_config)
        self.text_model = AutoModel.from_config(config.text_config, trust_remote_code=False, **pooler)
        self.text_dropout = nn.Dropout(config.text_dropout)
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, DualEncoderModel):
            nn.init.constant_(module.logit_scale, self.config.logit_scale_init_value)

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Project pictures, shape ``(batch, 3, H, W)``, to ``pooler_output`` of shape ``(batch, projection_dim)``."""
        output = self.vision_tower(pixel_values=pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=output.token_embeds, pooler_output=output.image_embeds)

    def pool_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the text tower's pooled vector before the projection, shape ``(batch, text hidden size)``."""
        hidden = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.text_pool == "cls":
            return hidden[:, 0]
        if attention_mask is None:
            return hidden.mean(dim=1)
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)

    def get_text_features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Project texts, shape ``(batch, length)``, to ``pooler_output`` of shape ``(batch, projection_dim)``."""
        pooled = self.text_dropout(self.pool_text(input_ids, attention_mask))
        return BaseModelOutputWithPooling(pooler_output=self.text_projection(pooled))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_backbone_features: torch.Tensor | None = None,
        text_pooled: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> DualEncoderOutput:
        """Score pictures against texts.

        Args:
            input_ids: ``(texts, length)``.
            pixel_values: ``(pictures, 3, H, W)``.
            attention_mask: ``(texts, length)``.
            image_backbone_features: cached output of the frozen backbone, instead of ``pixel_values``.
            text_pooled: cached output of :meth:`pool_text`, instead of ``input_ids``.

        Raises:
            ValueError: a picture or a text input is missing, or given twice.
        """
        if (input_ids is None) == (text_pooled is None):
            raise ValueError("Give exactly one of input_ids and text_pooled.")
        image = self.vision_tower(pixel_values=pixel_values, backbone_features=image_backbone_features).image_embeds
        if text_pooled is None:
            text = self.get_text_features(input_ids, attention_mask).pooler_output
        else:
            text = self.text_projection(self.text_dropout(text_pooled))
        image = nn.functional.normalize(image.float(), dim=-1)
        text = nn.functional.normalize(text.float(), dim=-1)
        logit_scale = self.logit_scale.exp()
        logits_per_image = logit_scale * image @ text.t()
        return DualEncoderOutput(
            logits_per_image=logits_per_image,
            logits_per_text=logits_per_image.t(),
            image_embeds=image,
            text_embeds=text,
            logit_scale=logit_scale,
        )


def _without_pooler(text_config: Any) -> dict[str, Any]:
    """BERT-like encoders carry a pooler that mean pooling never uses; leave it out where the class allows it."""
    return {"add_pooling_layer": False} if text_config.model_type in ("bert", "roberta", "xlm-roberta") else {}
