"""What S-SMKE returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

__all__ = ["SmkeOutput"]


@dataclass
class SmkeOutput(ModelOutput):
    """Embeddings and scores; everything that a loss reads besides.

    Attributes:
        logits_per_image: cosine of the embeddings divided by the temperature, shape ``(pictures, texts)``.
        logits_per_text: its transpose.
        image_embeds: L2-normalised, shape ``(pictures, projection_dim)``.
        text_embeds: L2-normalised, shape ``(texts, projection_dim)``.
        logit_scale: 1 / temperature of each contrast layer, shape ``(contrast layers,)``.
        image_layer1: h' of the pictures' class token, raw, shape ``(pictures, intermediate_size)``.
        image_layer2: h'', shape ``(pictures, hidden_size)``.
        image_layer3: h''', shape ``(pictures, head_size)``; None without a head.
        text_layer1: the same of the texts.
        text_layer2: the same of the texts.
        text_layer3: the same of the texts.
        image_tokens3: h''' of every patch, without the class token, shape ``(pictures, patches, head_size)``.
        text_tokens3: h''' of every text token, shape ``(texts, length, head_size)``.
        text_reduced: g(h''') of every text token, shape ``(texts, length, cmli_size)``.
        teacher_reduced: g of the teacher's patches, shape ``(pictures, patches, cmli_size)``.
        itm_logits1: on h': B pairs, then pictures with wrong texts, then texts with wrong pictures, ``(3B, 2)``.
        itm_logits2: on h''.
    """

    logits_per_image: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    logit_scale: torch.FloatTensor | None = None
    image_layer1: torch.FloatTensor | None = None
    image_layer2: torch.FloatTensor | None = None
    image_layer3: torch.FloatTensor | None = None
    text_layer1: torch.FloatTensor | None = None
    text_layer2: torch.FloatTensor | None = None
    text_layer3: torch.FloatTensor | None = None
    image_tokens3: torch.FloatTensor | None = None
    text_tokens3: torch.FloatTensor | None = None
    text_reduced: torch.FloatTensor | None = None
    teacher_reduced: torch.FloatTensor | None = None
    itm_logits1: torch.FloatTensor | None = None
    itm_logits2: torch.FloatTensor | None = None
