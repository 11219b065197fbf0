"""Batches of texts alone: a text with its label, a document with its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vlkd_training.data.collate import TextCollator

__all__ = ["LabelCollator", "SummaryCollator"]


class LabelCollator:
    """Texts or pairs of texts, as the tokenizer joins pairs, with their labels.

    Args:
        tokenizer: the student's; it pads on the right.
        max_length: tokens of both texts with the special ones; the longer text is cut first.
        regression: labels are scores and not numbers of classes.
    """

    def __init__(self, tokenizer: Any, max_length: int = 128, *, regression: bool = False) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.dtype = torch.float32 if regression else torch.int64

    def __call__(self, batch: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask``, ``labels``.

        Args:
            batch: rows of :func:`vlkd_training.data.glue.load_glue`.
        """
        pairs = [row["text_pair"] for row in batch]
        inputs = self.tokenizer(
            [row["text"] for row in batch],
            None if None in pairs else pairs,
            padding=True,
            padding_side="right",
            truncation="longest_first",
            max_length=self.max_length,
            return_tensors="pt",
        )
        found = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return found | {"labels": torch.tensor([row["label"] for row in batch], dtype=self.dtype)}


class SummaryCollator(TextCollator):
    """Documents for the encoder and their summaries as targets.

    Args:
        tokenizer: the student's.
        task: name of the loss that is logged.
        max_length: tokens of a document, special ones included; what is longer loses its end.
        max_target_length: the same of a summary.
    """

    def __init__(
        self, tokenizer: Any, task: str = "summary", max_length: int = 1024, max_target_length: int = 128
    ) -> None:
        super().__init__(tokenizer, max_length)
        self.task, self.targets = task, TextCollator(tokenizer, max_target_length)

    def __call__(self, batch: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """Return ``input_ids``, ``attention_mask``, ``labels`` and ``task``.

        Args:
            batch: rows of :func:`vlkd_training.data.xsum.load_xsum`.
        """
        ids, mask = self.encoder_inputs(self.bare([row["document"] for row in batch]))
        labels = self.labels(self.targets.bare([row["summary"] for row in batch]))
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "task": self.task}
