"""Output classes of the VLKD models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.utils import ModelOutput

__all__ = ["VlkdContext", "VlkdOutput", "VlkdSeq2SeqOutput"]


@dataclass
class VlkdOutput(ModelOutput):
    """What the dual encoder returns; fields without their input stay ``None``.

    Attributes:
        logits_per_image: cosine over temperature, shape ``(pictures, texts)``.
        logits_per_text: its transpose.
        last_hidden_state: image tokens V, L2-normalised, shape ``(pictures, tokens, projection_dim)``.
        pooler_output: v_cls, the same values as ``image_embeds``, under the name that HF pipelines read.
        image_embeds: L2-normalised, shape ``(pictures, projection_dim)``.
        text_embeds: L2-normalised, shape ``(texts, projection_dim)``.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    logits_per_image: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None


@dataclass
class VlkdContext(ModelOutput):
    """What the decoder attends to: C of equation (1).

    Attributes:
        last_hidden_state: concat(W_i V, W'_e W_e E), shape ``(batch, image tokens + text length, d_model)``.
        image_embeds: v_cls, or ``None`` without a picture.
        text_embeds: the text's embedding, shape ``(batch, projection_dim)``.
    """

    last_hidden_state: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None


@dataclass
class VlkdSeq2SeqOutput(ModelOutput):
    """What the generating model returns.

    Attributes:
        loss: mean cross-entropy over the labelled tokens, when ``labels`` were given and not ``labelled_logits_only``.
        logits: ``(batch, target length, vocabulary)``, or ``(labelled tokens, vocabulary)`` when
            ``labelled_logits_only`` was set.
        past_key_values: the decoder's cache.
        encoder_last_hidden_state: the context C, see :class:`VlkdContext`.
        image_embeds: L2-normalised, shape ``(batch, projection_dim)``.
        text_embeds: of ``clean_input_ids`` where given, else of ``input_ids``; ``(batch, projection_dim)``.
        logit_scale: 1 / temperature of the contrastive loss, a scalar.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: EncoderDecoderCache | None = None
    encoder_last_hidden_state: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    logit_scale: torch.FloatTensor | None = None
