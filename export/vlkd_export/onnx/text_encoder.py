"""Texts to unit vectors and to what the decoder sees of them."""

from __future__ import annotations

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec
from vlkd_hub.models import VlkdForConditionalGeneration

__all__ = ["TextEncoder", "text_encoder_spec"]


class TextEncoder(nn.Module):
    """``input_ids (B, T)``, ``attention_mask (B, T)`` -> ``text_embeds (B, d1)``, ``text_states (B, T, d2)``."""

    def __init__(self, model: VlkdForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        text_embeds, text_states = self.model.encode_text(input_ids, attention_mask)
        return text_embeds, text_states


def text_encoder_spec(model: VlkdForConditionalGeneration) -> GraphSpec:
    """The graph for batches of any size and texts of any length that the encoder has positions for."""
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=_positions(model))}
    attention_mask = torch.ones(2, 7, dtype=torch.int64)
    attention_mask[1, 5:] = 0
    return GraphSpec(
        name="text_encoder",
        module=TextEncoder(model),
        example=(torch.arange(14).view(2, 7) % 5 + 3, attention_mask),
        dynamic_shapes=(shape, shape),
        input_names=["input_ids", "attention_mask"],
        output_names=["text_embeds", "text_states"],
    )


def _positions(model: VlkdForConditionalGeneration) -> int:
    return int(getattr(model.config.text_encoder, "max_position_embeddings", 512))
