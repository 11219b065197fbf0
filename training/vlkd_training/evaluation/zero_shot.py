"""Zero-shot classification: the class whose sentences lie nearest to the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation.protocol import Student

__all__ = ["TEMPLATES", "class_embeddings", "zero_shot_metrics"]

TEMPLATES: tuple[str, ...] = ("a photo of a {}.", "a picture of a {}.", "an image of a {}.")
"""Sentences whose mean vector stands for a class."""


def class_embeddings(student: Student, classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> np.ndarray:
    """One unit vector a class: the mean over its sentences.

    Args:
        student: embeds the sentences.
        classes: names, in words.
        templates: sentences with ``{}`` where the name goes.

    Returns:
        Shape ``(classes, dim)``.

    Raises:
        InvalidInputError: fewer than two classes, a name twice, or a template without ``{}``.
    """
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise InvalidInputError(
            f"need two different classes or more; got {len(classes)}, {len(set(classes))} different."
        )
    if not templates or any("{}" not in template for template in templates):
        raise InvalidInputError(f"each template holds {{}} for the class name; got {list(templates)}.")
    texts = [template.format(name) for name in classes for template in templates]
    vectors = student.embed_texts(texts).reshape(len(classes), len(templates), -1).mean(axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def zero_shot_metrics(image_embeds: np.ndarray, class_embeds: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """Accuracy of the nearest class, and of the five nearest.

    Args:
        image_embeds: unit vectors, shape ``(images, dim)``.
        class_embeds: unit vectors, shape ``(classes, dim)``.
        labels: row of each picture's class.

    Returns:
        ``accuracy``, ``top5``, ``chance`` (parts of 1) and ``classes``.

    Raises:
        InvalidInputError: no picture, or another number of labels.
    """
    if len(labels) != len(image_embeds) or not len(labels):
        raise InvalidInputError(f"each picture needs a label: {len(image_embeds)} pictures, {len(labels)} labels.")
    order = np.argsort(-(image_embeds @ class_embeds.T), axis=1, kind="stable")  # (images, classes)
    hits = order[:, :5] == np.asarray(labels)[:, None]
    return {
        "accuracy": float(hits[:, 0].mean()),
        "top5": float(hits.any(axis=1).mean()),
        "chance": 1 / len(class_embeds),
        "classes": len(class_embeds),
    }
