"""Recall at K between pictures and texts, both ways, where a picture has several captions."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np

from vlkd_hub.errors import InvalidInputError

__all__ = ["CUTOFFS", "retrieval_metrics"]

CUTOFFS = (1, 5, 10)
_ROWS = 1024
"""Queries scored at a time: 1,024 x 100,000 scores are 400 MB."""


def retrieval_metrics(
    image_embeds: np.ndarray, text_embeds: np.ndarray, text_owner: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Score every text against every picture.

    A text finds its picture at rank r; a picture finds the best ranked of its own captions. Candidates that score
    exactly as the right one count half each, so that a model which gives the same vector to everything gains nothing.

    Args:
        image_embeds: unit vectors, shape ``(images, dim)``.
        text_embeds: unit vectors, shape ``(texts, dim)``.
        text_owner: for each text the row of its picture; every picture owns one text or more.

    Returns:
        ``{"text_to_image": ..., "image_to_text": ...}``, each with ``r@1``, ``r@5``, ``r@10`` (parts of 1),
        ``median_rank`` and ``chance_r@10``, what random order would reach.

    Raises:
        InvalidInputError: shapes do not fit, a value is not finite, or a picture owns no text.
    """
    owner = np.asarray(text_owner, dtype=np.int64)
    _check(image_embeds, text_embeds, owner)
    captions = np.bincount(owner, minlength=len(image_embeds))
    images, texts = len(image_embeds), len(text_embeds)
    chance_text = min(10, images) / images
    chance_image = float(np.mean([_chance_of_any(int(count), texts, 10) for count in captions]))
    return {
        "text_to_image": _summary(_text_ranks(image_embeds, text_embeds, owner), chance_text),
        "image_to_text": _summary(_image_ranks(image_embeds, text_embeds, owner), chance_image),
    }


def _text_ranks(image_embeds: np.ndarray, text_embeds: np.ndarray, owner: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(owner))
    for start in range(0, len(owner), _ROWS):
        mine = owner[start : start + _ROWS]
        scores = text_embeds[start : start + _ROWS] @ image_embeds.T  # (texts, images)
        right = scores[np.arange(len(mine)), mine][:, None]
        ranks[start : start + _ROWS] = 1 + (scores > right).sum(1) + ((scores == right).sum(1) - 1) / 2
    return ranks


def _image_ranks(image_embeds: np.ndarray, text_embeds: np.ndarray, owner: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(image_embeds))
    for start in range(0, len(image_embeds), _ROWS):
        scores = image_embeds[start : start + _ROWS] @ text_embeds.T  # (images, texts)
        mine = owner[None, :] == np.arange(start, start + len(scores))[:, None]
        best = np.where(mine, scores, -np.inf).max(1, keepdims=True)
        others = np.where(mine, -np.inf, scores)
        ranks[start : start + _ROWS] = 1 + (others > best).sum(1) + (others == best).sum(1) / 2
    return ranks


def _summary(ranks: np.ndarray, chance: float) -> dict[str, float]:
    recall: dict[str, Any] = {f"r@{cutoff}": float(np.mean(ranks <= cutoff)) for cutoff in CUTOFFS}
    return recall | {"median_rank": float(np.median(ranks)), "chance_r@10": chance}


def _chance_of_any(mine: int, total: int, cutoff: int) -> float:
    """Probability that at least one of ``mine`` texts is among ``cutoff`` drawn from ``total``."""
    if cutoff >= total:
        return 1.0
    return 1 - comb(total - mine, cutoff) / comb(total, cutoff)


def _check(image_embeds: np.ndarray, text_embeds: np.ndarray, owner: np.ndarray) -> None:
    if image_embeds.ndim != 2 or text_embeds.ndim != 2 or image_embeds.shape[1] != text_embeds.shape[1]:
        raise InvalidInputError(
            f"embeddings must be (images, dim) and (texts, dim) of one dim; got {image_embeds.shape} "
            f"and {text_embeds.shape}."
        )
    if len(owner) != len(text_embeds):
        raise InvalidInputError(f"each text needs its picture: {len(text_embeds)} texts, {len(owner)} owners.")
    if set(np.unique(owner).tolist()) != set(range(len(image_embeds))):
        raise InvalidInputError("each picture needs at least one text, and each text a picture among those given.")
    if not (np.isfinite(image_embeds).all() and np.isfinite(text_embeds).all()):
        raise InvalidInputError("an embedding is not finite: a NaN would silently count as a wrong or a right answer.")
