"""The keys and values of the context, for every layer of the decoder, computed once a request."""

from __future__ import annotations

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_hub.runtime.decoder import cache_names

__all__ = ["CrossAttention", "cross_attention_spec"]


class CrossAttention(nn.Module):
    """``context (B, N, d2)`` -> ``cross_key.i``, ``cross_value.i`` ``(B, heads, N, dh)`` for each layer ``i``."""

    def __init__(self, model: VlkdForConditionalGeneration) -> None:
        super().__init__()
        self.num_heads = model.config.decoder.decoder_attention_heads
        self.projections = nn.ModuleList()
        for layer in model.decoder.layers:
            self.projections.extend([layer.encoder_attn.k_proj, layer.encoder_attn.v_proj])

    def forward(self, context: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(p(context).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for p in self.projections)


def cross_attention_spec(model: VlkdForConditionalGeneration) -> GraphSpec:
    """The graph for contexts of any batch size and length."""
    return GraphSpec(
        name="cross_attention",
        module=CrossAttention(model),
        example=(torch.rand(2, 5, model.config.decoder.d_model),),
        dynamic_shapes=({0: torch.export.Dim("batch"), 1: torch.export.Dim("context")},),
        input_names=["context"],
        output_names=cache_names("cross", model.config.decoder.decoder_layers),
    )
