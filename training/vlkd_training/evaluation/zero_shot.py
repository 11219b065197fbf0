"""Zero-shot classification: the class whose sentences lie nearest to the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vlkd_hub.errors import InvalidInputError
from vlkd_training.evaluation.protocol import Student
from vlkd_training.evaluation.templates import TEMPLATES

__all__ = ["class_embeddings", "zero_shot_metrics"]

_CLASSES = 32
"""Classes whose sentences are embedded at a time."""


def class_embeddings(
    student: Student,
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """One unit vector a class: the mean over its sentences.

    Args:
        student: embeds the sentences.
        classes: names, in words.
        templates: sentences with ``{}`` where the name goes.
        progress: hears how many classes are done.

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
    means = []
    for start in range(0, len(classes), _CLASSES):
        names = classes[start : start + _CLASSES]
        texts = [template.format(name) for name in names for template in templates]
        means.append(student.embed_texts(texts).reshape(len(names), len(templates), -1).mean(axis=1))
        progress(start + len(names))
    vectors = np.concatenate(means)
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
