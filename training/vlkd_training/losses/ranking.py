"""The ranking loss of SHRe."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from .gather import gather_rows, mean_count, rank_and_world
from .guards import require_same_shape

__all__ = ["RankingLoss"]


class RankingLoss(nn.Module):
    r"""Hinge on cosines: a picture's own caption must beat every other caption by a margin.

    L_Rank = sum_i sum_{j != i} max{0, Delta - cos(x_i^v, x_i) + cos(x_i^v, x_j)}, equation (32).

    As printed: pictures are the anchors and captions the negatives, one direction only; the double sum is not divided
    by anything, so it grows with the square of the batch. What is ours: Delta, which the thesis leaves open; other
    captions of the same picture are no negatives when ``image_ids`` are given; under distributed training captions of
    every process are negatives, and each process returns its own pictures' sum times the number of processes, since
    gradients are averaged over processes and the equation's batch is the whole one.

    Args:
        margin: Delta, in cosine, above 0.
        reduction: ``"sum"`` is the equation; ``"mean"`` divides by how many (i, j) were compared, between 0 and
            Delta + 2 whatever the batch.
        symmetric: average with the same loss for captions as anchors and pictures as negatives; not the equation.

    Raises:
        ValueError: the margin is not positive, or the reduction is another word.

    Source: 004_3cb4412af0da3ec5.txt, section 1.7.1, equation (32).
    """

    def __init__(self, margin: float = 0.2, reduction: Literal["sum", "mean"] = "sum", symmetric: bool = False) -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"The margin must be above 0, got {margin}: equal embeddings would cost nothing.")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"The reduction must be 'sum' or 'mean', got {reduction!r}.")
        self.margin = margin
        self.reduction = reduction
        self.symmetric = symmetric

    def forward(
        self, image_embeds: torch.Tensor, text_embeds: torch.Tensor, image_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Rank the captions of a batch for each picture.

        Args:
            image_embeds: x^v, any length (cosines are taken here), shape ``(batch, dim)``.
            text_embeds: x, shape ``(batch, dim)``; row k belongs to picture k.
            image_ids: which picture each row shows, shape ``(batch,)``.

        Returns:
            A scalar.

        Raises:
            ValueError: shapes differ, or there is one pair alone, which has no negative.
        """
        require_same_shape("Pictures", image_embeds, "texts", text_embeds, "(batch, dim)", 2)
        if image_ids is not None and image_ids.shape != image_embeds.shape[:1]:
            raise ValueError(f"image_ids have shape {tuple(image_ids.shape)}; one id a row is ({len(image_embeds)},).")
        _, world = rank_and_world()
        if len(image_embeds) * world < 2:
            raise ValueError("A ranking loss needs at least 2 pairs in a batch, got 1: there is no negative.")
        images, texts = (nn.functional.normalize(rows.float(), dim=-1) for rows in (image_embeds, text_embeds))
        negative = self._negatives(image_ids, len(images), images.device)
        loss = self._one_way(images, texts, negative)
        return (loss + self._one_way(texts, images, negative)) / 2 if self.symmetric else loss

    def _negatives(self, image_ids: torch.Tensor | None, batch: int, device: torch.device) -> torch.Tensor:
        """Which candidates of every process are negatives of which row, ``(B, world B)``."""
        rank, world = rank_and_world()
        row = torch.arange(batch, device=device)
        if image_ids is not None:
            return image_ids.unsqueeze(1) != gather_rows(image_ids).unsqueeze(0)
        negative = torch.ones(batch, world * batch, dtype=torch.bool, device=device)
        negative[row, rank * batch + row] = False
        return negative

    def _one_way(self, anchors: torch.Tensor, others: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        own = (anchors * others).sum(dim=-1, keepdim=True)  # (B, 1)
        hinge = (self.margin - own + anchors @ gather_rows(others).t()).clamp(min=0)  # (B, world B)
        total = hinge.masked_fill(~negative, 0.0).sum()
        if self.reduction == "sum":
            return total * rank_and_world()[1]
        return total / max(mean_count(int(negative.sum()), negative.device), 1.0)
