"""Batches for a student that writes by itself: prompts and pictures, no targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .data.collate import PictureSource
from .encoders import tokenize

__all__ = ["PromptCollator"]


class PromptCollator:
    """The same prompt for every picture.

    Args:
        rows: a :class:`vlkd_training.rows.PictureRows`.
        tokenizer: the student's.
        prompt: what the encoder reads.
        pictures: where the pictures come from.
    """

    def __init__(self, rows: Any, tokenizer: Any, prompt: str, pictures: PictureSource) -> None:
        self.rows, self.pictures = rows, pictures
        self.prompt = tokenize(tokenizer, [prompt])

    def __call__(self, batch: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return prompt, picture, and ``row``: which references a caption is scored against."""
        found = {name: value.expand(len(batch), -1).contiguous() for name, value in self.prompt.items()}
        found |= self.pictures([self.rows.images[row] for row in batch])
        return found | {"row": torch.tensor(list(batch))}
