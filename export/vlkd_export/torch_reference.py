"""The model in torch, as the gate asks it: with the processors, the model and ``generate`` of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vlkd_export.golden import GoldenPicture
from vlkd_export.onnx.model_exporter import ModelExporter
from vlkd_hub.errors import MissingDependencyError

__all__ = ["TorchReference"]


class TorchReference:
    """The model in torch, with the interface that the gate needs. What it returns lies on the CPU.

    Args:
        exporter: of the model's class, with the model in eval mode, float32, on the CPU.
        processor: as :func:`vlkd_hub.inference.load_processor` gives it.
    """

    def __init__(self, exporter: ModelExporter, processor: Any) -> None:
        self.exporter = exporter
        self.model = exporter.model
        self.processor = processor
        self.device = "cpu"
        self.length: int | None = None
        """Tokens that every text is padded and cut to, as a bundle of fixed shapes does; None pads to the longest."""

    def to(self, device: str) -> None:
        """Answer on another device from now on, named as torch names it.

        Raises:
            MissingDependencyError: torch does not have it.
        """
        try:
            self.exporter.towers.to(device)
        except (RuntimeError, AssertionError) as error:  # no such device, or a torch built without it
            raise MissingDependencyError(
                f"torch {torch.__version__} cannot use the device {device!r} ({str(error).splitlines()[0]}). "
                "Use --device cpu, or install a torch that has it."
            ) from error
        self.device = device

    def pixels(self, pictures: Sequence[GoldenPicture]) -> torch.Tensor:
        """``(batch, 3, H, W)`` by the processor of transformers."""
        images = [picture.image for picture in pictures]
        values: torch.Tensor = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        return values

    def texts(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """``input_ids`` and ``attention_mask``, ``(batch, length)``, by the tokenizer of transformers."""
        padding = "max_length" if self.length else True
        batch = self.processor.tokenizer(
            list(texts), padding=padding, truncation=True, max_length=self.length, return_tensors="pt"
        )
        return batch["input_ids"], batch["attention_mask"]

    def prompts(self, task: str, pictures: Sequence[GoldenPicture]) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokenised prompts of a task."""
        return self.texts([self.processor.build_prompt(task, picture.question) for picture in pictures])

    @torch.no_grad()
    def encode_image(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``(batch, 3, H, W)`` -> unit vectors ``(batch, dim)`` and, of a model that writes, states."""
        return tuple(output.cpu() for output in self.exporter.towers.encode_image(pixels.to(self.device)))

    @torch.no_grad()
    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``(batch, length)`` twice -> unit vectors ``(batch, dim)`` and, of a model that writes, states."""
        inputs = input_ids.to(self.device), attention_mask.to(self.device)
        return tuple(output.cpu() for output in self.exporter.towers.encode_text(*inputs))

    @torch.no_grad()
    def match_image(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``(batch, 3, H, W)`` -> patches ``(batch, N, D)`` and, of a shared Transformer, their self-attention."""
        return tuple(output.cpu() for output in self.exporter.match_image(pixels.to(self.device)))

    @torch.no_grad()
    def match_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """``(batch, length)`` twice -> ``(batch, length, D)``."""
        return self.exporter.match_text(input_ids.to(self.device), attention_mask.to(self.device)).cpu()

    def embed_pictures(self, pictures: Sequence[GoldenPicture]) -> torch.Tensor:
        """Unit vectors, ``(pictures, dim)``, one picture at a time."""
        return torch.cat([self.encode_image(self.pixels([picture]))[0] for picture in pictures])

    @torch.no_grad()
    def context(self, task: str, pictures: Sequence[GoldenPicture]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder looks at for a task: ``(batch, tokens, width)`` and its mask."""
        input_ids, mask = self.prompts(task, pictures)
        inputs = (tensor.to(self.device) for tensor in (input_ids, mask, self.pixels(pictures)))
        context = self.model.encode_context(*inputs).last_hidden_state.cpu()
        seen = mask.new_ones(context.shape[0], context.shape[1] - mask.shape[1])
        return context, torch.cat([seen, mask], dim=1)

    @torch.no_grad()
    def write(self, task: str, pictures: Sequence[GoldenPicture], num_beams: int) -> tuple[list[list[int]], float]:
        """Tokens of each picture's text, without the start token; and the closest call among them."""
        options = self.processor.generation_kwargs(task) | {"num_beams": num_beams, "do_sample": False}
        input_ids, mask = (tensor.to(self.device) for tensor in self.prompts(task, pictures))
        pixels = self.pixels(pictures).to(self.device)
        written = self.model.generate(input_ids, attention_mask=mask, pixel_values=pixels, **options).cpu()
        logits = self.logits(task, pictures, written[:, :-1])
        ends = self.model.generation_config.eos_token_id
        rows = [_until_end(row, ends) for row in written[:, 1:].tolist()]
        best = logits.topk(2, dim=-1).values
        margins = best[..., 0] - best[..., 1]
        return rows, min(float(margins[row, : len(tokens)].min()) for row, tokens in enumerate(rows))

    @torch.no_grad()
    def logits(self, task: str, pictures: Sequence[GoldenPicture], decoder_input_ids: torch.Tensor) -> torch.Tensor:
        """``(batch, length, vocab)`` for texts that are given, by the ordinary forward pass."""
        input_ids, mask = (tensor.to(self.device) for tensor in self.prompts(task, pictures))
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            pixel_values=self.pixels(pictures).to(self.device),
            decoder_input_ids=decoder_input_ids.to(self.device),
        )
        found: torch.Tensor = output.logits.cpu()
        return found


def _until_end(tokens: list[int], ends: int | list[int]) -> list[int]:
    """Tokens up to and with the first end token."""
    wanted = [ends] if isinstance(ends, int) else ends
    return next((tokens[: at + 1] for at, token in enumerate(tokens) if token in wanted), tokens)
