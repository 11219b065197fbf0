"""What goes into the engine and what comes out, where it is more than a string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vlkd_serving.index import Hit
from vlkd_serving.pre import Picture

__all__ = ["GenerationOptions", "SearchAnswer", "SearchQuestion", "Text"]

GenerationOptions: TypeAlias = tuple[int | None, int | None]
"""(num_beams, max_new_tokens); None keeps the model's own."""
SearchAnswer: TypeAlias = tuple[int, list[Hit]]
"""The generation of the index that answered, and what it found."""


@dataclass(frozen=True)
class Text:
    """A text that the model wrote.

    Args:
        text: for people.
        score: geometric mean of its tokens' probabilities, 0 to 1.
        prompt_tokens: tokens that stood before the decoder.
        completion_tokens: tokens written, the end token included.
    """

    text: str
    score: float
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class SearchQuestion:
    """What to look for.

    Args:
        texts: none or one.
        pictures: none or one; together with a text, the two are mixed.
        k: most results.
        offset: results to leave out.
        where: a filter, see :mod:`vlkd_serving.index.where`.
        weights: of the text and the picture; equal where None.
    """

    texts: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    k: int = 10
    offset: int = 0
    where: str | None = None
    weights: Sequence[float] | None = None
