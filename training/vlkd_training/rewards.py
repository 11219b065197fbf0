"""CIDEr-D of single captions, with document frequencies of a whole training set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError

from .evaluation.tokenizer import tokenize_plain

__all__ = ["CiderReward"]


class _Batch(list[Any]):
    """References of a few pictures that count as a corpus of ``size`` pictures: CIDEr takes its log."""

    def __init__(self, items: Sequence[Any], size: int) -> None:
        super().__init__(items)
        self.size = size

    def __len__(self) -> int:
        return self.size


class CiderReward:
    """Scores captions against the captions of their pictures, by pycocoevalcap's CIDEr-D.

    How rare a word is, is counted once over all pictures; scoring a batch costs the batch alone. The tokenizer is the
    plain one, since a reward is asked for thousands of times.

    Args:
        references: the captions of every picture.

    Raises:
        DataError: fewer than two pictures (every word would be in every picture and weigh nothing), or a picture
            without captions.

    Source: "CIDEr: Consensus-based Image Description Evaluation" (arXiv:1411.5726), CIDEr-D.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        if len(references) < 2 or not all(references):
            raise DataError(
                f"CIDEr needs at least two pictures, each with captions; got {len(references)} pictures, "
                f"{sum(not texts for texts in references)} of them without."
            )
        scorer = require("pycocoevalcap.cider.cider_scorer", "train")
        self._cook, self._scorer = scorer.cook_test, scorer.CiderScorer()
        self.references = [[self._cook(tokenize_plain(text)) for text in texts] for texts in references]
        frequency: dict[tuple[str, ...], float] = defaultdict(float)
        for texts in self.references:
            for ngram in {ngram for text in texts for ngram in text}:
                frequency[ngram] += 1
        self._scorer.document_frequency = frequency

    def __call__(self, captions: Sequence[str], pictures: Sequence[int]) -> np.ndarray:
        """Score each caption against the references of its picture.

        Returns:
            Scores on pycocoevalcap's scale (1.0 is the 100 of papers), shape ``(len(captions),)``, float64.
        """
        self._scorer.ctest = [self._cook(tokenize_plain(caption)) for caption in captions]
        self._scorer.crefs = _Batch([self.references[row] for row in pictures], len(self.references))
        return np.asarray(self._scorer.compute_cider())
