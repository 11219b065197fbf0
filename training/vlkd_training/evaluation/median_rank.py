"""SHRe's average median rank, as 004_3cb4412af0da3ec5.txt measures it (above its Table 11)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation.retrieval import retrieval_metrics

__all__ = ["average_median_rank", "check_splits", "parse_splits"]


def average_median_rank(
    image_embeds: np.ndarray, text_embeds: np.ndarray, text_owner: Sequence[int], splits: int = 5, size: int = 1000
) -> dict[str, Any]:
    """Median rank of the right one among ``size``, averaged over splits and captions.

    The first ``splits * size`` pictures are cut into ``splits`` distinct sets in their order (which pairs SHRe took is
    not known). In each set every picture stands with one of its captions, so a query has one right answer among
    ``size``. The medians of the sets are averaged, and that is repeated for each caption of a picture.

    Args:
        image_embeds: unit vectors, shape ``(images, dim)``.
        text_embeds: unit vectors, shape ``(texts, dim)``.
        text_owner: for each text the row of its picture.
        splits: number of sets.
        size: pictures of one.

    Returns:
        ``text_to_image`` and ``image_to_text``, the average median ranks (1 is the best); ``splits``, ``size``,
        ``repeats`` (captions that every picture used has), and ``chance``, what random order gives.

    Raises:
        InvalidInputError: too few pictures, sets of fewer than two, or what
            :func:`vlkd_training.evaluation.retrieval.retrieval_metrics` refuses.
    """
    check_splits(len(image_embeds), splits, size)
    wanted = splits * size
    captions: list[list[int]] = [[] for _ in range(wanted)]
    for text, image in enumerate(text_owner):
        if image < wanted:
            captions[image].append(text)
    repeats = min(map(len, captions))
    medians: dict[str, list[float]] = {"text_to_image": [], "image_to_text": []}
    for turn in range(repeats):
        for start in range(0, wanted, size):
            texts = [captions[image][turn] for image in range(start, start + size)]
            found = retrieval_metrics(image_embeds[start : start + size], text_embeds[texts], range(size))
            for way, values in medians.items():
                values.append(found[way]["median_rank"])
    average: dict[str, Any] = {way: float(np.mean(values)) for way, values in medians.items()}
    return average | {"splits": splits, "size": size, "repeats": repeats, "chance": (size + 1) / 2}


def check_splits(images: int, splits: int, size: int) -> None:
    """Refuse splits that ``images`` pictures with captions cannot fill.

    Raises:
        InvalidInputError: too few pictures, or sets of fewer than two.
    """
    if splits < 1 or size < 2:
        raise InvalidInputError(f"need one split of two pictures or more, got {splits} of {size}.")
    if splits * size > images:
        raise InvalidInputError(
            f"{splits} splits of {size} need {splits * size} pictures with captions, and there are {images}. "
            f"Ask for smaller splits, such as {splits}x{images // splits}."
        )


def parse_splits(text: str) -> tuple[int, int]:
    """``"5x1000"`` -> ``(5, 1000)``.

    Raises:
        InvalidInputError: anything else.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,6})", text.strip())
    if match is None:
        raise InvalidInputError(f"--median-rank takes SPLITSxPICTURES, such as 5x1000, got {text!r}.")
    return int(match[1]), int(match[2])
