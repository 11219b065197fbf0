"""Recall against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation import retrieval
from vlkd_training.evaluation.retrieval import retrieval_metrics

EYE = np.eye(12, dtype=np.float32)


def test_ranks_by_hand() -> None:
    """Two pictures, three captions; the second caption of picture 0 lies nearer to picture 1.

    Texts -> pictures: ranks 1, 2, 1. Pictures -> texts: both find one of their own first.
    """
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    found = retrieval_metrics(images, texts, [0, 0, 1])
    assert found["text_to_image"]["r@1"] == pytest.approx(2 / 3)
    assert found["text_to_image"]["r@5"] == 1.0 and found["text_to_image"]["median_rank"] == 1.0
    assert found["image_to_text"]["r@1"] == 1.0


def test_cutoffs_by_hand() -> None:
    """Each text's own picture is beaten by exactly `row` others: ranks are 1 to 12."""
    scores = np.zeros((12, 12))
    for row in range(12):
        scores[row, row] = 0.5
        scores[row, [other for other in range(12) if other != row][:row]] = 0.9
    found = retrieval_metrics(EYE, scores, range(12))["text_to_image"]
    assert (found["r@1"], found["r@5"], found["r@10"]) == pytest.approx((1 / 12, 5 / 12, 10 / 12))
    assert found["median_rank"] == 6.5 and found["chance_r@10"] == pytest.approx(10 / 12)


def test_a_picture_takes_its_best_caption() -> None:
    """Picture 0 owns a bad caption and a good one; the good one counts."""
    images = np.array([[1.0, 0.0], [0.0, 1.0]])
    texts = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.9]])
    assert retrieval_metrics(images, texts, [0, 0, 1])["image_to_text"]["r@1"] == 0.5


def test_one_vector_for_everything_is_worth_nothing() -> None:
    """Counting ties as wins would give a collapsed model full marks."""
    same = np.ones((40, 4)) / 2
    found = retrieval_metrics(same, same, range(40))
    for way in found.values():
        assert way["r@10"] == 0.0 and way["median_rank"] == 20.5


def test_chance_is_what_random_vectors_reach() -> None:
    """The stated chance, with several captions a picture, against a simulation."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 3)
    found = [retrieval_metrics(rng.normal(size=(30, 8)), rng.normal(size=(90, 8)), owner.tolist()) for _ in range(200)]
    for way in ("text_to_image", "image_to_text"):
        mean = np.mean([one[way]["r@10"] for one in found])
        assert mean == pytest.approx(found[0][way]["chance_r@10"], abs=0.02)


def test_rows_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large sets are scored part by part."""
    rng = np.random.default_rng(1)
    images, texts = rng.normal(size=(20, 6)), rng.normal(size=(60, 6))
    owner = np.repeat(np.arange(20), 3).tolist()
    whole = retrieval_metrics(images, texts, owner)
    monkeypatch.setattr(retrieval, "_ROWS", 7)
    assert retrieval_metrics(images, texts, owner) == whole


@pytest.mark.parametrize(
    ("images", "texts", "owner", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), [0, 1], r"one dim; got \(2, 3\) and \(2, 4\)"),
        (np.ones((2, 3)), np.ones((3, 3)), [0, 1], "3 texts, 2 owners"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, 0], "at least one text"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), [0, 1], "not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(images: np.ndarray, texts: np.ndarray, owner: list, message: str) -> None:
    """Each of these would otherwise give a number."""
    with pytest.raises(InvalidInputError, match=message):
        retrieval_metrics(images, texts, owner)
