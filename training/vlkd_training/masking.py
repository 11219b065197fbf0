"""Span corruption of token ids, as BART is pre-trained and as ICTI uses it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["infill_spans"]


def infill_spans(
    tokens: Sequence[int],
    mask_token_id: int,
    rng: np.random.Generator,
    mask_ratio: float = 0.15,
    poisson_lambda: float = 3.0,
) -> list[int]:
    """Replace spans of tokens by one mask token each (text infilling of BART).

    Span lengths are drawn from Poisson(lambda) until ``mask_ratio`` of the tokens is covered; the last span is cut to
    fit. A span of length 0 inserts a mask and covers nothing, as in BART. The number of tokens to cover is rounded up
    or down at random, so that its expectation is exact for short captions, but one token is always covered.

    Args:
        tokens: ids of one text without its special tokens.
        mask_token_id: id of the mask token.
        rng: source of randomness.
        mask_ratio: share of tokens to cover, 0..1; 1 leaves one mask only when one span takes all.
        poisson_lambda: mean span length.

    Returns:
        The corrupted ids; the target is the whole original text.

    Raises:
        ValueError: no tokens, or a ratio outside 0..1.

    Source: 002_330011b7ef9ac362.txt, section 3.2.3 (15 %, lambda = 3).
    """
    if not tokens:
        raise ValueError("Cannot corrupt an empty text; drop captions without words before training.")
    if not 0.0 < mask_ratio <= 1.0:
        raise ValueError(f"mask_ratio must be in (0, 1], got {mask_ratio}.")
    budget = max(1, int(mask_ratio * len(tokens) + rng.random()))
    covered = np.zeros(len(tokens), dtype=bool)
    starts = np.zeros(len(tokens), dtype=bool)  # where a span begins: one mask token is written there
    inserted: list[int] = []
    while budget > 0:
        length = int(min(rng.poisson(poisson_lambda), budget))
        if length == 0:
            inserted.append(int(rng.integers(0, len(tokens) + 1)))
            if len(inserted) > len(tokens):
                length = 1
            else:
                continue
        free = np.flatnonzero(~covered)
        start = int(free[rng.integers(0, len(free))])
        end = min(start + length, len(tokens))
        if covered[start:end].any():
            end = start + int(np.argmax(covered[start:end]))
        covered[start:end] = True
        starts[start] = True
        budget -= end - start
    corrupted: list[int] = []
    for position in range(len(tokens) + 1):
        corrupted += [mask_token_id] * inserted.count(position)
        if position == len(tokens):
            break
        if starts[position]:
            corrupted.append(mask_token_id)
        if not covered[position]:
            corrupted.append(tokens[position])
    return corrupted
