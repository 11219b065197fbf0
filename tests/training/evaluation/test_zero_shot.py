"""Zero-shot classification with vectors chosen by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation.templates import TEMPLATES
from vlkd_training.evaluation.zero_shot import class_embeddings, zero_shot_metrics


class Embedder:
    """Gives the texts that hold "cat" one axis, others another, and keeps what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return np.array([[1.0, 0.0] if "cat" in text else [0.0, 1.0] for text in texts], dtype=np.float32)


def test_a_class_is_the_mean_of_its_sentences() -> None:
    """One unit vector a class, from every template."""
    student = Embedder()
    found = class_embeddings(student, ["cat", "dog"], ["a {}", "the {} of a cat"])  # type: ignore[arg-type]
    assert student.texts == ["a cat", "the cat of a cat", "a dog", "the dog of a cat"]
    np.testing.assert_allclose(found, [[1, 0], [0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_accuracy_by_hand() -> None:
    """Of three pictures two lie nearest to their class; among five all are found, there being six classes."""
    images = np.eye(6)[[0, 1, 2]]
    found = zero_shot_metrics(images, np.eye(6), [0, 1, 3])
    assert found == {"accuracy": pytest.approx(2 / 3), "top5": 1.0, "chance": pytest.approx(1 / 6), "classes": 6}
    assert zero_shot_metrics(images, np.eye(6), [0, 1, 5])["top5"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        (["cat"], ["a {}"], "two different classes"),
        (["cat", "cat"], ["a {}"], "2, 1 different"),
        (["cat", "dog"], ["a photo"], "holds {} for the class name"),
        (["cat", "dog"], [], "holds {} for the class name"),
    ],
)
def test_what_cannot_tell_classes_apart_is_refused(classes: list[str], templates: list[str], message: str) -> None:
    """A template without a name gives every class the same vector."""
    with pytest.raises(InvalidInputError, match=message):
        class_embeddings(Embedder(), classes, templates)  # type: ignore[arg-type]


def test_labels_must_fit() -> None:
    """A slip of one would score every picture against its neighbour's class."""
    with pytest.raises(InvalidInputError, match="2 pictures, 1 labels"):
        zero_shot_metrics(np.eye(2), np.eye(2), [0])


def test_eighty_sentences() -> None:
    """All different, each with the name once, and each ends as a sentence does."""
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 80
    assert all(template.count("{}") == 1 and template.endswith(".") for template in TEMPLATES)
    assert len({template.format("owl") for template in TEMPLATES}) == 80


def test_many_classes_are_embedded_some_at_a_time() -> None:
    """A thousand classes are 80,000 sentences: not all at once, in their order, and one hears how far it is."""
    sizes: list[int] = []

    class Rows(Embedder):
        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            sizes.append(len(texts))
            return np.array([[float(text[2:-1]), 1.0] for text in texts])

    done: list[int] = []
    names = [str(number) for number in range(70)]
    found = class_embeddings(Rows(), names, ["a {}.", "b {}."], done.append)  # type: ignore[arg-type]
    assert sizes == [64, 64, 12] and done == [32, 64, 70]
    np.testing.assert_allclose(found[:, 0] / found[:, 1], range(70), atol=1e-9)
