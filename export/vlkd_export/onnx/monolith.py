"""Both towers in one graph, with the scores of every picture against every text."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vlkd_export.onnx.graph import GraphSpec
from vlkd_export.onnx.text_encoder import example_texts

__all__ = ["OUTPUTS", "Monolith", "monolith_spec"]

OUTPUTS = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
"""Names and order of ``CLIPModel``'s ONNX export elsewhere."""


class Monolith(nn.Module):
    """``input_ids``, ``attention_mask (T, L)``, ``pixel_values (P, 3, H, W)`` -> see :data:`OUTPUTS`.

    ``logits_per_image (P, T)`` is the cosine over the temperature.
    """

    def __init__(self, model: Any, logit_scale: float) -> None:
        super().__init__()
        self.model = model
        self.logit_scale = logit_scale

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pixel_values: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        text_embeds = self.model.encode_text(input_ids, attention_mask)[0]
        image_embeds = self.model.encode_image(pixel_values)[0]
        logits_per_image = self.logit_scale * image_embeds @ text_embeds.t()
        return logits_per_image, logits_per_image.t(), text_embeds, image_embeds


def monolith_spec(
    model: Any,
    logit_scale: float,
    size: tuple[int, int],
    max_length: int,
    fixed_length: int | None = None,
) -> GraphSpec:
    """The graph for any number of pictures and texts.

    Args:
        model: has ``encode_image`` and ``encode_text``.
        logit_scale: 1 / temperature.
        size: height and width in pixels.
        max_length: tokens that the text encoder has positions for.
        fixed_length: one picture and one text of so many tokens a run instead.
    """
    text = {0: torch.export.Dim("texts"), 1: torch.export.Dim("length", max=max_length)}
    rows = 1 if fixed_length else 3
    return GraphSpec(
        name="model",
        module=Monolith(model, logit_scale),
        example=(*example_texts(fixed_length), torch.rand(rows, 3, *size)),
        dynamic_shapes=None if fixed_length else (text, text, {0: torch.export.Dim("pictures")}),
        input_names=["input_ids", "attention_mask", "pixel_values"],
        output_names=list(OUTPUTS),
    )
