"""Texts to unit vectors and, for a model that writes, to what its decoder sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec

__all__ = ["TextEncoder", "example_texts", "text_encoder_spec"]

OUTPUTS = ("text_embeds", "text_states")
DEFAULT_POSITIONS = 512


class TextEncoder(nn.Module):
    """``input_ids``, ``attention_mask``, ``(B, T)`` -> ``text_embeds (B, d1)`` and, where there are any, states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.model.encode_text(input_ids, attention_mask))


def text_encoder_spec(
    model: Any,
    outputs: Sequence[str] = OUTPUTS,
    *,
    max_length: int | None = None,
    fixed_length: int | None = None,
    name: str = "text_encoder",
) -> GraphSpec:
    """The graph for batches of any size and texts of any length that the encoder has positions for.

    Args:
        model: has ``encode_text``; see :class:`~vlkd_export.onnx.model_exporter.ModelExporter`.
        outputs: names of what ``encode_text`` returns.
        max_length: tokens that the encoder has positions for; None reads it from a VLKD student.
        fixed_length: one text of so many tokens a run instead.
        name: of the graph.
    """
    positions = max_length or int(getattr(model.config.text_encoder, "max_position_embeddings", DEFAULT_POSITIONS))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=positions)}
    return GraphSpec(
        name=name,
        module=TextEncoder(model),
        example=example_texts(fixed_length),
        dynamic_shapes=None if fixed_length else (shape, shape),
        input_names=["input_ids", "attention_mask"],
        output_names=list(outputs),
    )


def example_texts(fixed_length: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts of seven tokens, or one of ``fixed_length``; the last two tokens are padding."""
    rows, length = (1, fixed_length) if fixed_length else (2, 7)
    mask = torch.ones(rows, length, dtype=torch.int64)
    mask[-1, -2:] = 0
    return torch.arange(rows * length).view(rows, length) % 5 + 3, mask
