"""Questions about places and comparisons. Both orders of two things are equally likely, so neither answer leads."""

from __future__ import annotations

import random
from collections import Counter

from vlkd_training.data.scenes.grammar import CLEAR, is_clearly, plural
from vlkd_training.data.scenes.references import named_objects
from vlkd_training.data.scenes.vocabulary import SHAPES, SIZES
from vlkd_training.data.scenes.world import Scene, SceneObject

__all__ = ["ask_comparisons", "ask_relations"]

Asked = list[tuple[str, str]]

_AXES = (("left", "right", "left or right of"), ("above", "below", "above or below"))
_WHAT = {"left": "left of", "right": "right of", "above": "above", "below": "below"}


def ask_relations(scene: Scene, rng: random.Random) -> Asked:
    """Up to three questions: left or right, above or below, and what stands on one side of a thing."""
    named = named_objects(scene)
    asked: Asked = []
    for low, high, words in _AXES:
        found = [
            (f"is the {first.name} {words} the {second.name}?", low if is_clearly(first, low, second) else high)
            for first in named
            for second in named
            if first is not second and (is_clearly(first, low, second) or is_clearly(first, high, second))
        ]
        if found:
            asked.append(rng.choice(found))
    neighbours = [
        (f"what is {_WHAT[side]} the {item.name}?", neighbour.shape)
        for item in named
        for side in _WHAT
        if (neighbour := _only_one(scene, item, side)) is not None
    ]
    if neighbours:
        asked.append(rng.choice(neighbours))
    return asked


def _only_one(scene: Scene, item: SceneObject, side: str) -> SceneObject | None:
    """The one object on a side of ``item``, where exactly one is there and no other is near the border line."""
    axis = "x" if side in ("left", "right") else "y"
    others = [other for other in scene.objects if other is not item]
    if any(abs(getattr(other, axis) - getattr(item, axis)) < CLEAR for other in others):
        return None
    beside = [other for other in others if is_clearly(other, side, item)]
    return beside[0] if len(beside) == 1 else None


def ask_comparisons(scene: Scene, rng: random.Random) -> Asked:
    """Up to two questions: one that compares sizes, one that compares numbers."""
    return [rng.choice(found) for found in (_sizes(scene), _numbers(scene, rng)) if found]


def _sizes(scene: Scene) -> Asked:
    named = named_objects(scene)
    found: Asked = []
    for first in named:
        for second in named:
            order = SIZES.index(first.size) - SIZES.index(second.size)
            if order == 0:
                continue
            for word, bigger in (("larger", True), ("smaller", False)):
                holds = (order > 0) == bigger
                found.append((f"is the {first.name} {word} than the {second.name}?", "yes" if holds else "no"))
                if first.shape != second.shape:
                    question = f"which is {word}, the {first.name} or the {second.name}?"
                    found.append((question, first.shape if holds else second.shape))
    return found


def _numbers(scene: Scene, rng: random.Random) -> Asked:
    """Things of which there are more; one of the two may be missing from the picture."""
    shapes = Counter(item.shape for item in scene.objects)
    colors = Counter(item.color for item in scene.objects)
    if len(shapes) == 1:
        shapes[rng.choice([shape for shape in SHAPES if shape not in shapes])] = 0
    found: Asked = []
    for first, count in shapes.items():
        for second, other in shapes.items():
            if count != other:
                answer = "yes" if count > other else "no"
                found.append((f"are there more {plural(first)} than {plural(second)}?", answer))
    for first, count in colors.items():
        for second, other in colors.items():
            if count != other:
                answer = first if count > other else second
                found.append((f"are there more {first} objects or {second} objects?", answer))
    return found
