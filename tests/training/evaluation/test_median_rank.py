"""The average median rank with vectors chosen by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation.median_rank import average_median_rank, parse_splits


def test_each_caption_is_asked_once_in_its_own_split() -> None:
    """First captions find their picture; second ones find the neighbour of the split first, their own second."""
    images = np.eye(4)
    neighbour = np.eye(4)[[1, 0, 3, 2]]
    texts = np.empty((8, 4))
    texts[0::2], texts[1::2] = images, 0.6 * images + 0.8 * neighbour
    found = average_median_rank(images, texts, np.repeat(range(4), 2).tolist(), splits=2, size=2)
    assert found == {
        "text_to_image": 1.5,
        "image_to_text": 1.5,
        "splits": 2,
        "size": 2,
        "repeats": 2,
        "chance": 1.5,
    }


def test_only_the_pictures_of_the_splits_count() -> None:
    """A fifth picture that would win every query stands in no split; a caption more than others have is not asked."""
    images = np.concatenate([np.eye(4), np.full((1, 4), 10.0)])
    texts = np.concatenate([np.eye(4), np.full((1, 4), 10.0), np.eye(4)[:1]])
    found = average_median_rank(images, texts, [0, 1, 2, 3, 4, 0], splits=1, size=4)
    assert found["text_to_image"] == found["image_to_text"] == 1.0 and found["repeats"] == 1


def test_two_encoders_that_know_nothing_of_each_other_are_at_chance() -> None:
    """Vectors of one encoder against those of another, whatever each of them knows alone."""
    rng = np.random.default_rng(0)
    pictures = rng.standard_normal((1000, 64)) + 3 * rng.standard_normal(64)  # a common direction, as encoders have
    texts = np.repeat(rng.standard_normal((1000, 64)), 5, axis=0) + 0.3 * rng.standard_normal((5000, 64))
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    found = average_median_rank(pictures, texts, np.repeat(range(1000), 5).tolist(), splits=5, size=200)
    for way in ("text_to_image", "image_to_text"):
        assert found[way] == pytest.approx(found["chance"], rel=0.15), way
    assert found["repeats"] == 5


@pytest.mark.parametrize(
    ("splits", "size", "message"), [(5, 100, "need 500 pictures.*smaller splits, such as 5x1"), (0, 2, "got 0 of 2")]
)
def test_what_cannot_be_cut_is_refused(splits: int, size: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        average_median_rank(np.eye(8), np.eye(8), range(8), splits, size)


def test_what_the_option_takes() -> None:
    assert parse_splits("5x1000") == (5, 1000)
    for text in ("5", "5x", "0x10", "5 x 10", "x"):
        with pytest.raises(InvalidInputError, match="SPLITSxPICTURES"):
            parse_splits(text)
