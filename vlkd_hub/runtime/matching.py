"""Words against patches: which places of a picture each word of a text is nearest to. numpy alone.

The comparison is that of cross-modal late interaction, on the tokens of the shared encoder.

Source: 004_3cb4412af0da3ec5.txt, equations (71) to (74) and Figure 29.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError

__all__ = ["TOP", "MatchedWord", "Word", "WordMatch", "grid_side", "match_words", "words_of"]

TOP = 5
"""Patches that are named for each word, as in Figure 29."""

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a text with the tokens that it was cut into."""

    text: str
    start: int
    """Place of its first character in the text."""
    end: int
    """Place behind its last character."""
    tokens: tuple[int, ...]
    """Places among the tokens of the text."""


@dataclass(frozen=True, kw_only=True)
class MatchedWord:
    """What a picture holds for one word."""

    text: str
    start: int
    end: int
    scores: Floats
    """Cosine with every patch, ``(rows, columns)``; of a word of several pieces the mean over them."""
    top: tuple[tuple[int, int], ...]
    """Row and column of the five best patches, the best first: the first is m_j^{t2i} of equation (72)."""
    attention: Floats | None
    """Self-attention of the best patch to every patch, ``(rows, columns)``; None where the shared encoder is an MLP.
    What it gives the class token is left out, so the sum is below 1."""


@dataclass(frozen=True, kw_only=True)
class WordMatch:
    """A text's words in a picture."""

    words: tuple[MatchedWord, ...]
    rows: int
    columns: int
    region: Box
    """What the model saw of the picture, which the grid divides: left, top, right, bottom in shares of its width and
    height. Below 0 or above 1 where black was added to it."""


def grid_side(patches: int) -> int:
    """Rows, and columns, of a square grid of patches.

    Raises:
        InvalidInputError: they are no square.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise InvalidInputError(
            f"The image encoder gives {patches} patches, which are no square grid, so no word can be shown in the "
            "picture."
        )
    return side


def words_of(text: str, encoding: Any) -> list[Word]:
    """Put word pieces together to words.

    Args:
        text: as it was encoded.
        encoding: of one text, by the ``tokenizers`` package. Class token, separator and padding, which belong to no
            word, are left out, as the thesis does; so is what was cut off behind the longest length.
    """
    pieces: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None:
            pieces.setdefault(word, []).append(place)
    words = []
    for tokens in pieces.values():
        spans = [encoding.offsets[place] for place in tokens]
        start, end = min(first for first, _ in spans), max(last for _, last in spans)
        start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokenizers count the space before a word
        end = start + len(text[start:end].rstrip())
        if end > start:
            words.append(Word(text=text[start:end], start=start, end=end, tokens=tuple(tokens)))
    return words


def match_words(
    words: Sequence[Word], text_tokens: Floats, image_tokens: Floats, attention: Floats | None, region: Box
) -> WordMatch:
    """Compare every word with every patch.

    Args:
        words: of one text.
        text_tokens: unit vectors of its tokens, ``(tokens, width)``.
        image_tokens: unit vectors of the patches of one picture, without class token, ``(patches, width)``.
        attention: of the shared block for that picture, class token first, ``(1 + patches, 1 + patches)``; or None.
        region: see :class:`WordMatch`.

    Raises:
        InvalidInputError: the patches are no square grid.
    """
    side = grid_side(len(image_tokens))
    cosines = text_tokens @ image_tokens.T  # (tokens, patches)
    found = []
    for word in words:
        scores = cosines[list(word.tokens)].mean(axis=0)
        best = np.argsort(-scores, kind="stable")[:TOP]
        seen = None if attention is None else attention[1 + best[0], 1:].reshape(side, side)
        top = tuple((int(place) // side, int(place) % side) for place in best)
        found.append(
            MatchedWord(
                text=word.text,
                start=word.start,
                end=word.end,
                scores=scores.reshape(side, side),
                top=top,
                attention=seen,
            )
        )
    return WordMatch(words=tuple(found), rows=side, columns=side, region=region)
