"""A teacher that answers while the student trains, where its outputs are not cached."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import CLIPModel

from vlkd_hub.errors import TrainingError
from vlkd_hub.models import DualEncoderModel

__all__ = ["LayerTeacher", "TextTeacher"]


class TextTeacher(nn.Module):
    """The frozen text side of a dual encoder: adds t_eos to a batch.

    Args:
        model: an aligned teacher or a CLIP; only its text side is kept.
    """

    def __init__(self, model: DualEncoderModel | CLIPModel) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> TextTeacher:
        """A teacher is always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return ``teacher_text_embeds``, unit vectors of shape ``(batch, dim)``.

        Args:
            batch: holds ``teacher_input_ids`` and ``teacher_attention_mask``, in the teacher's own words.

        Raises:
            TrainingError: the teacher gave NaN or infinity.
        """
        ids, mask = batch["teacher_input_ids"], batch["teacher_attention_mask"]
        found = self.model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output.float()
        if not torch.isfinite(found).all():
            rows = (~torch.isfinite(found).all(dim=-1)).nonzero().flatten().tolist()
            raise TrainingError(
                f"The teacher's text vectors hold NaN or infinity in rows {rows[:5]} of a batch. Check its weights, or "
                "run it in fp32."
            )
        return {"teacher_text_embeds": nn.functional.normalize(found, dim=-1)}


class LayerTeacher(nn.Module):
    """A frozen encoder that tells what each of its layers says of a batch.

    Args:
        model: an encoder of transformers, or one with the same ``output_hidden_states``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> LayerTeacher:
        """A teacher is always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: dict[str, Any]) -> dict[str, tuple[torch.Tensor, ...]]:
        """Return ``teacher_layers``, one tensor ``(batch, tokens, width)`` a layer.

        Args:
            batch: holds ``pixel_values``, or ``input_ids`` and ``attention_mask``: what the student gets too.
        """
        inputs = {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask") if name in batch}
        return {"teacher_layers": tuple(self.model(**inputs, output_hidden_states=True).hidden_states[1:])}
