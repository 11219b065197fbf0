"""Span-infilling perplexity: how well a student restores a text whose spans are hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.collate import CaptionCollator, PictureSource
from vlkd_training.rows import TextRows

__all__ = ["infilling_perplexity"]


@torch.inference_mode()
def infilling_perplexity(
    student: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    mask_ratio: float = 0.15,
    poisson_lambda: float = 3.0,
    seed: int = 0,
    batch_size: int = 64,
    max_length: int = 64,
    images: Sequence[int] = (),
    pictures: PictureSource | None = None,
) -> float:
    """Corrupt texts as BART is pre-trained, and take exp of the mean negative log-likelihood of a whole text's token.

    The decoder sees C of equation (1), without its picture part unless pictures are given. Every token counts, those
    that were not hidden too, as in equation (2). Students with one tokenizer can be compared: equal seeds hide the same
    spans.

    Args:
        student: a :class:`vlkd_hub.models.VlkdForConditionalGeneration`; put in eval mode.
        tokenizer: its tokenizer.
        texts: held-out ones.
        mask_ratio: share of tokens that is hidden.
        poisson_lambda: mean length of a span.
        seed: of the spans.
        batch_size: texts a pass; other batches draw other spans.
        max_length: tokens of a text.
        images: the picture of each text, where pictures are shown.
        pictures: hands them out.

    Raises:
        InvalidInputError: no texts.

    Source: 002_330011b7ef9ac362.txt, sections 3.1 and 3.2.3 (15 %, Poisson with lambda = 3).
    """
    if not texts:
        raise InvalidInputError("There are no texts to restore; give at least one.")
    student.eval()
    total, count = 0.0, 0
    options: dict[str, Any] = {"mask_ratio": mask_ratio, "poisson_lambda": poisson_lambda, "max_length": max_length}
    collate = CaptionCollator(TextRows(texts, images), tokenizer, pictures, None, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(texts), batch_size):
            batch = collate(range(start, min(start + batch_size, len(texts))))
            batch = {name: value.to(student.device) for name, value in batch.items()}
            batch.pop("image_ids", None)
            labels = batch["labels"]
            logits = student(**batch, labelled_logits_only=True).logits
            total += nn.functional.cross_entropy(logits.float(), labels[labels != -100], reduction="sum").item()
            count += int((labels != -100).sum())
    return math.exp(total / count)
