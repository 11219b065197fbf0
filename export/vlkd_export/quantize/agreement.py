"""How near a bundle in fewer bits is to the fp32 one it came from, on the golden pictures: told, not decided on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlkd_export.answers import Answers, onnx_answers
from vlkd_export.golden import GoldenPicture
from vlkd_hub.runtime import OnnxStudent

__all__ = ["Agreed", "Agreement", "agreement"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """With fp32."""

    smallest_image_cosine: float
    smallest_text_cosine: float
    equal_texts: int
    """Greedy captions and answers that are the same, token by token."""
    texts: int


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """What the bundle answered, and how near that is to fp32."""

    answers: Answers
    with_fp32: Agreement


def agreement(fp32: OnnxStudent, other: OnnxStudent, drawn: Sequence[GoldenPicture]) -> Agreed:
    """Ask both and compare.

    Args:
        fp32: the student that ``other`` was made from.
        other: the same in fewer bits.
        drawn: golden pictures.
    """
    before, after = (onnx_answers(student, {"drawn": drawn}) for student in (fp32, other))
    pairs = [
        pair
        for task, rows in before.greedy["drawn"].items()
        for pair in zip(rows, after.greedy["drawn"][task], strict=True)
    ]
    found = Agreement(
        smallest_image_cosine=_smallest_cosine(before.image_embeds["drawn"], after.image_embeds["drawn"]),
        smallest_text_cosine=_smallest_cosine(before.text_embeds, after.text_embeds),
        equal_texts=sum(one == two for one, two in pairs),
        texts=len(pairs),
    )
    return Agreed(answers=after, with_fp32=found)


def _smallest_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    products = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return round(float(products.min()), 6)
