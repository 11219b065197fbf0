"""One graph for the first step of the decoder and for every later one.

The layers are those of transformers' ``BartDecoder`` and share its weights; only the attention is written out here,
so that the cache is plain tensors, the context's keys and values come from outside, and one product makes query, key
and value. The past may hold no token: then the graph reads the first one. Rows may have read different numbers of
tokens: what is padding in a row's past is masked, and its position is the number of its real ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_hub.runtime.decoder import cache_names

__all__ = ["DecoderLayerStep", "DecoderStep", "decoder_spec"]


class DecoderLayerStep(nn.Module):
    """One decoder layer over cached keys and values."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer: Any = layer
        attention = layer.self_attn
        self.num_heads = int(attention.num_heads)
        self.scaling = float(attention.scaling)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = nn.Linear(attention.embed_dim, 3 * attention.embed_dim)
        self.qkv.weight = nn.Parameter(torch.cat([p.weight for p in projections]), requires_grad=False)
        self.qkv.bias = nn.Parameter(torch.cat([p.bias for p in projections]), requires_grad=False)

    def forward(
        self,
        hidden: torch.Tensor,  # (B, S, d)
        causal_mask: torch.Tensor,  # (B, 1, S, P + S), added to the scores
        context_mask: torch.Tensor,  # (B, 1, 1, N), added to the scores
        cross: list[torch.Tensor],  # key and value, (B, heads, N, dh)
        past: list[torch.Tensor],  # key and value, (B, heads, P, dh)
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        layer = self.layer
        query, key, value = (self._split(part) for part in self.qkv(hidden).chunk(3, dim=-1))
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        attended = layer.self_attn.out_proj(self._attend(query, key, value, causal_mask))
        hidden = layer.self_attn_layer_norm(hidden + attended)
        query = self._split(layer.encoder_attn.q_proj(hidden))
        attended = layer.encoder_attn.out_proj(self._attend(query, cross[0], cross[1], context_mask))
        hidden = layer.encoder_attn_layer_norm(hidden + attended)
        hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
        return hidden, key, value

    def _split(self, tensor: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = tensor.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, S, dh)
        return heads

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax((query * self.scaling) @ key.transpose(-1, -2) + mask, dim=-1)
        mixed: torch.Tensor = (weights @ value).transpose(1, 2).flatten(2)  # (B, S, d)
        return mixed


class DecoderStep(nn.Module):
    """Reads ``S`` tokens after ``P`` cached ones and says what may come next.

    Inputs: ``input_ids (B, S)``, ``context_mask (B, N)``, ``past_mask (B, P)``, the context's keys and values
    ``(B, heads, N, dh)``, the past ones ``(B, heads, P, dh)``. Outputs: ``logits (B, S, vocab)`` and the present ones
    ``(B, heads, P + S, dh)``.
    """

    def __init__(self, model: VlkdForConditionalGeneration) -> None:
        super().__init__()
        self.decoder: Any = model.decoder
        self.lm_head: Any = model.lm_head
        self.layers = nn.ModuleList(DecoderLayerStep(layer) for layer in model.decoder.layers)

    def forward(
        self,
        input_ids: torch.Tensor,
        context_mask: torch.Tensor,
        past_mask: torch.Tensor,
        cross: list[torch.Tensor],
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        real = torch.cat([past_mask, torch.ones_like(input_ids)], dim=1)  # (B, P + S)
        tokens, step = real.shape[1], input_ids.shape[1]
        columns = torch.arange(tokens)
        order = columns[tokens - step :]  # of the tokens that are read now
        positions = real.sum(dim=1, keepdim=True) + order - tokens  # (B, S)
        table = self.decoder.embed_positions
        hidden = self.decoder.embed_tokens(input_ids)
        hidden = hidden + nn.functional.embedding(positions + table.offset, table.weight)
        hidden = self.decoder.layernorm_embedding(hidden)
        closed = torch.finfo(hidden.dtype).min
        seen = (columns[None] <= order[:, None]) & real.bool()[:, None]  # (B, S, P + S)
        causal = torch.where(seen, 0.0, closed)[:, None]
        context = torch.where(context_mask.bool(), 0.0, closed)[:, None, None]
        present: list[torch.Tensor] = []
        for index, layer in enumerate(self.layers):
            own = slice(2 * index, 2 * index + 2)
            hidden, key, value = layer(hidden, causal, context, cross[own], past[own])
            present += [key, value]
        return self.lm_head(hidden), *present


def decoder_spec(model: VlkdForConditionalGeneration) -> GraphSpec:
    """The graph for any batch, context, past and number of new tokens."""
    config = model.config.decoder
    heads, width = config.decoder_attention_heads, config.d_model // config.decoder_attention_heads
    batch, step, past, context = (torch.export.Dim(name) for name in ("batch", "step", "past", "context"))
    count = 2 * config.decoder_layers
    return GraphSpec(
        name="decoder",
        module=DecoderStep(model),
        example=(
            torch.arange(6).view(2, 3) + 3,
            torch.ones(2, 5, dtype=torch.int64),
            torch.ones(2, 4, dtype=torch.int64),
            [torch.rand(2, heads, 5, width) for _ in range(count)],
            [torch.rand(2, heads, 4, width) for _ in range(count)],
        ),
        dynamic_shapes=(
            {0: batch, 1: step},
            {0: batch, 1: context},
            {0: batch, 1: past},
            [{0: batch, 2: context}] * count,
            [{0: batch, 2: past}] * count,
        ),
        input_names=[
            "input_ids",
            "context_mask",
            "past_mask",
            *cache_names("cross", config.decoder_layers),
            *cache_names("past", config.decoder_layers),
        ],
        output_names=["logits", *cache_names("present", config.decoder_layers)],
    )
