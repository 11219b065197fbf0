"""The student in torch, as the gate asks it: with the processors, the model and ``generate`` of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vlkd_export.golden import GoldenPicture
from vlkd_hub.models import VlkdForConditionalGeneration

__all__ = ["TorchReference"]


class TorchReference:
    """The student in torch, with the interface that the gate needs.

    Args:
        model: in eval mode, float32.
        processor: as :func:`vlkd_hub.inference.load_processor` gives it.
    """

    def __init__(self, model: VlkdForConditionalGeneration, processor: Any) -> None:
        self.model = model
        self.processor = processor

    def pixels(self, pictures: Sequence[GoldenPicture]) -> torch.Tensor:
        """``(batch, 3, H, W)`` by the processor of transformers."""
        images = [picture.image for picture in pictures]
        values: torch.Tensor = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        return values

    def texts(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """``input_ids`` and ``attention_mask``, ``(batch, length)``, by the tokenizer of transformers."""
        batch = self.processor.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"]

    def prompts(self, task: str, pictures: Sequence[GoldenPicture]) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokenised prompts of a task."""
        return self.texts([self.processor.build_prompt(task, picture.question) for picture in pictures])

    @torch.no_grad()
    def write(self, task: str, pictures: Sequence[GoldenPicture], num_beams: int) -> tuple[list[list[int]], float]:
        """Tokens of each picture's text, without the start token; and the closest call among them."""
        options = self.processor.generation_kwargs(task) | {"num_beams": num_beams, "do_sample": False}
        input_ids, mask = self.prompts(task, pictures)
        written = self.model.generate(input_ids, attention_mask=mask, pixel_values=self.pixels(pictures), **options)
        logits = self.logits(task, pictures, written[:, :-1])
        ends = self.model.generation_config.eos_token_id
        rows = [_until_end(row, ends) for row in written[:, 1:].tolist()]
        best = logits.topk(2, dim=-1).values
        margins = best[..., 0] - best[..., 1]
        return rows, min(float(margins[row, : len(tokens)].min()) for row, tokens in enumerate(rows))

    @torch.no_grad()
    def logits(self, task: str, pictures: Sequence[GoldenPicture], decoder_input_ids: torch.Tensor) -> torch.Tensor:
        """``(batch, length, vocab)`` for texts that are given, by the ordinary forward pass."""
        input_ids, mask = self.prompts(task, pictures)
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            pixel_values=self.pixels(pictures),
            decoder_input_ids=decoder_input_ids,
        )
        found: torch.Tensor = output.logits
        return found


def _until_end(tokens: list[int], ends: int | list[int]) -> list[int]:
    """Tokens up to and with the first end token."""
    wanted = [ends] if isinstance(ends, int) else ends
    return next((tokens[: at + 1] for at, token in enumerate(tokens) if token in wanted), tokens)
