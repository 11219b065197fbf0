"""The reward is pycocoevalcap's CIDEr-D, with document frequencies of the whole training set."""

from __future__ import annotations

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from vlkd_hub.errors import DataError
from vlkd_training.evaluation.tokenizer import tokenize_plain
from vlkd_training.rewards import CiderReward

REFERENCES = [
    ["A red circle above a blue square.", "There is a red circle over a blue square."],
    ["A green triangle left of a red circle.", "a green triangle beside a circle"],
    ["Two yellow squares.", "two squares, both yellow", "Yellow squares: two of them."],
    ["A dog runs on the beach.", "a brown dog running at the sea"],
]
CAPTIONS = ["a red circle above a square", "a green circle", "two yellow squares", "a cat sleeps"]


def reference_scores(captions: list[str]) -> np.ndarray:
    expected = {str(row): [tokenize_plain(text) for text in texts] for row, texts in enumerate(REFERENCES)}
    said = {str(row): [tokenize_plain(text)] for row, text in enumerate(captions)}
    return Cider().compute_score(expected, said)[1]


def test_equals_pycocoevalcap() -> None:
    """Over the whole corpus at once the document frequencies are the same, so the scores must be."""
    found = CiderReward(REFERENCES)(CAPTIONS, range(4))
    np.testing.assert_allclose(found, reference_scores(CAPTIONS), rtol=1e-12)
    assert found[2] > found[0] > found[1] > found[3]


def test_a_part_of_the_corpus_is_scored_as_in_the_whole() -> None:
    """A batch must not change how rare a word is: not its size, its order, or a picture that comes twice."""
    reward = CiderReward(REFERENCES)
    whole = reference_scores(CAPTIONS)
    np.testing.assert_allclose(reward([CAPTIONS[2], CAPTIONS[0]], [2, 0]), whole[[2, 0]], rtol=1e-12)
    np.testing.assert_allclose(reward([CAPTIONS[1]] * 3, [1, 1, 1]), whole[[1, 1, 1]], rtol=1e-12)
    np.testing.assert_allclose(reward(CAPTIONS, range(4)), whole, rtol=1e-12)


def test_an_empty_caption_scores_nothing() -> None:
    assert CiderReward(REFERENCES)([""], [0]) == [0.0]


@pytest.mark.parametrize("references", [[["one picture"]], [["a"], []], []])
def test_what_cannot_be_scored_is_refused(references: list[list[str]]) -> None:
    with pytest.raises(DataError, match="CIDEr needs at least two pictures, each with captions"):
        CiderReward(references)
