"""Caption scores of the COCO evaluation (pycocoevalcap), beside the same captions on the wrong pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlkd_hub._optional import require
from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation.java_metrics import meteor_score, spice_score
from vlkd_training.evaluation.tokenizer import tokenize

__all__ = ["caption_metrics", "derangement"]


def caption_metrics(captions: Sequence[str], references: Sequence[Sequence[str]], *, seed: int = 0) -> dict[str, Any]:
    """Score one caption a picture against the picture's references.

    Args:
        captions: one a picture, of at least two pictures (CIDEr weighs words by how many pictures share them).
        references: for each picture its captions.
        seed: of the exchange of pictures for ``cider_shuffled``.

    Returns:
        ``cider`` (1.0 is the 100 of the usual scale), ``bleu4``, ``rouge_l``, ``meteor`` and ``spice`` (None where they
        cannot run here), ``cider_shuffled`` (each caption scored on another picture) and ``notes``: the tokenizer used,
        and for each None its reason.

    Raises:
        InvalidInputError: the lists differ in length, hold fewer than two pictures, or a picture has no reference.
    """
    if len(captions) != len(references) or len(captions) < 2:
        raise InvalidInputError(f"need two pictures or more; got {len(captions)} captions, {len(references)} pictures.")
    if not all(references):
        raise InvalidInputError(f"picture {[bool(r) for r in references].index(False)} has no reference caption.")
    tokenized, tokenizer = tokenize([*captions, *(text for texts in references for text in texts)])
    names = [str(row) for row in range(len(captions))]
    candidates = {name: [text] for name, text in zip(names, tokenized, strict=False)}
    rest = iter(tokenized[len(captions) :])
    expected = {name: [next(rest) for _ in texts] for name, texts in zip(names, references, strict=True)}
    order = derangement(len(names), seed)
    shuffled = {name: candidates[names[other]] for name, other in zip(names, order, strict=True)}
    cider = require("pycocoevalcap.cider.cider", "train").Cider()
    meteor, no_meteor = meteor_score(expected, candidates)
    spice, no_spice = spice_score(expected, candidates)
    reasons = {"meteor": no_meteor, "spice": no_spice}
    return {
        "cider": float(cider.compute_score(expected, candidates)[0]),
        "bleu4": _bleu4(expected, candidates),
        "rouge_l": float(require("pycocoevalcap.rouge.rouge", "train").Rouge().compute_score(expected, candidates)[0]),
        "meteor": meteor,
        "spice": spice,
        "cider_shuffled": float(cider.compute_score(expected, shuffled)[0]),
        "notes": {"tokenizer": tokenizer} | {name: reason for name, reason in reasons.items() if reason},
    }


def derangement(count: int, seed: int) -> np.ndarray:
    """A seeded order in which nothing keeps its place: a random circle, each item moved one step along it.

    Raises:
        InvalidInputError: fewer than two items.
    """
    if count < 2:
        raise InvalidInputError(f"one item cannot change places; got {count}.")
    circle = np.random.default_rng(seed).permutation(count)
    order = np.empty(count, dtype=np.int64)
    order[circle] = np.roll(circle, 1)
    return order


def _bleu4(expected: dict[str, list[str]], candidates: dict[str, list[str]]) -> float:
    scorer = require("pycocoevalcap.bleu.bleu", "train").Bleu(4)
    return float(scorer.compute_score(expected, candidates, verbose=0)[0][3])
