"""What people might say of a scene and ask about it: captions, questions with answers, entailment sentences.

Every word follows from the :class:`Scene` alone, and a question is only asked where its answer is unambiguous.
Answers are balanced within each form of question, so that none can be guessed from its wording.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlkd_training.data.scenes.vocabulary import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    MATERIALS,
    NUMBER_WORDS,
    SHAPES,
    SIZES,
)
from vlkd_training.data.scenes.world import Scene, SceneObject

__all__ = ["ScenesQuestion", "captions", "entailment", "plural", "questions", "relation"]

_CLEAR = 0.12
"""Two objects are left/right or above/below of each other when their centres differ by this part of the side."""


@dataclass(frozen=True)
class ScenesQuestion:
    """A question, its one answer and its type."""

    question: str
    answer: str
    type: str


Group = tuple[SceneObject, ...]


def plural(noun: str) -> str:
    """Return the plural of a shape's name."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def relation(first: SceneObject, second: SceneObject) -> str:
    """Return where ``first`` lies of ``second``, along the axis on which they differ most."""
    if abs(first.x - second.x) >= abs(first.y - second.y):
        return "left of" if first.x < second.x else "right of"
    return "above" if first.y < second.y else "below"


def _groups(scene: Scene) -> list[Group]:
    """Equal objects together, in reading order."""
    found: dict[tuple[str, str], list[SceneObject]] = {}
    for item in scene.objects:
        found.setdefault(item.pair, []).append(item)
    return [tuple(items) for items in found.values()]


def _phrase(group: Group, *adjectives: str) -> str:
    """For example "two small red circles" or "an orange star"."""
    words = [word for word in adjectives if word and word != "plain"] + [group[0].color]
    if len(group) > 1:
        return " ".join([NUMBER_WORDS[len(group)], *words, plural(group[0].shape)])
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words, group[0].shape])


def _join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _the(group: Group) -> str:
    noun = group[0].shape if len(group) == 1 else plural(group[0].shape)
    return f"the {group[0].color} {noun}"


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """Return five sentences of five forms: ground, plain list, size and pattern, number, relation."""
    groups, ground, count = _groups(scene), scene.background, len(scene.objects)

    def shuffled() -> list[Group]:
        return rng.sample(groups, len(groups))

    plain = [_phrase(group) for group in shuffled()]
    listed = shuffled()
    detailed = [_phrase(group, group[0].size, group[0].material) for group in shuffled()[:3]]
    counted = [_phrase(group) for group in shuffled()]
    things = "object" if count == 1 else "objects"
    verb = "is" if len(listed[0]) == 1 else "are"
    sentences = [
        f"{_join(plain)} on {ground}.",
        f"there {verb} {_join([_phrase(group) for group in listed])}.",
        f"{_join(detailed)}.",
        f"the {ground} holds {NUMBER_WORDS[count]} {things}: {_join(counted)}.",
    ]
    singles = [group for group in groups if len(group) == 1]
    if len(singles) >= 2:
        first, second = rng.sample(singles, 2)
        sentences.append(f"{_phrase(first)} {relation(first[0], second[0])} {_phrase(second)} on {ground}.")
    else:
        patterned = [_phrase(group, group[0].material) for group in shuffled()]
        sentences.append(f"a picture of {_join(patterned)}.")
    return sentences


def questions(scene: Scene, rng: random.Random) -> list[ScenesQuestion]:
    """Return at least eight questions: colour, shape, count, yes/no, relation, comparison, material, ground."""
    asked = [*_color_and_shape(scene), *_counts(scene, rng), *_existence(scene, rng)]
    asked += [*_relations(scene, rng), *_comparisons(scene, rng)]
    group = rng.choice(_groups(scene))
    verb = "is" if len(group) == 1 else "are"
    asked.append(ScenesQuestion(f"what pattern {verb} {_the(group)}?", group[0].material, "material"))
    asked.append(ScenesQuestion("what is the ground?", scene.background, "ground"))
    return asked


def _color_and_shape(scene: Scene) -> list[ScenesQuestion]:
    """Colour by shape and shape by colour, wherever the scene leaves one answer."""
    asked = []
    for shape in sorted({item.shape for item in scene.objects}):
        items = [item for item in scene.objects if item.shape == shape]
        colors = {item.color for item in items}
        if len(colors) == 1:
            noun = f"is the {shape}" if len(items) == 1 else f"are the {plural(shape)}"
            asked.append(ScenesQuestion(f"what color {noun}?", colors.pop(), "color"))
    for color in sorted({item.color for item in scene.objects}):
        items = [item for item in scene.objects if item.color == color]
        shapes = {item.shape for item in items}
        if len(shapes) == 1:
            noun = f"is the {color} object" if len(items) == 1 else f"are the {color} objects"
            asked.append(ScenesQuestion(f"what shape {noun}?", shapes.pop(), "shape"))
    return asked


def _counts(scene: Scene, rng: random.Random) -> list[ScenesQuestion]:
    group = rng.choice(_groups(scene))
    shape = rng.choice(sorted({item.shape for item in scene.objects}))
    same_shape = sum(item.shape == shape for item in scene.objects)
    return [
        ScenesQuestion("how many objects are there?", NUMBER_WORDS[len(scene.objects)], "count"),
        ScenesQuestion(
            f"how many {group[0].color} {plural(group[0].shape)} are there?", NUMBER_WORDS[len(group)], "count"
        ),
        ScenesQuestion(f"how many {plural(shape)} are there?", NUMBER_WORDS[same_shape], "count"),
    ]


def _existence(scene: Scene, rng: random.Random) -> list[ScenesQuestion]:
    """One yes, one no; the no shares a colour or a shape with the scene, so that binding decides."""
    present = rng.choice(_groups(scene))[0]
    absent = _absent_pair(scene, rng)
    return [
        ScenesQuestion(f"is there {_article(present.color)} {present.name}?", "yes", "yes/no"),
        ScenesQuestion(f"is there {_article(absent[0])} {absent[0]} {absent[1]}?", "no", "yes/no"),
    ]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _absent_pair(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A (colour, shape) that the scene lacks, half of it present; never one that training must not name."""
    pairs = scene.pairs()
    while True:
        anchor = rng.choice(scene.objects)
        other = (rng.choice(tuple(COLORS)), anchor.shape) if rng.random() < 0.5 else (anchor.color, rng.choice(SHAPES))
        if other not in pairs and other not in HELD_OUT_PAIRS:
            return other


def _relations(scene: Scene, rng: random.Random) -> list[ScenesQuestion]:
    """Left or right, above or below, between two objects that occur once each; which is named first is random."""
    singles = [group[0] for group in _groups(scene) if len(group) == 1]
    if len(singles) < 2:
        return []
    asked = []
    for axis, low, high in (("x", "left", "right"), ("y", "above", "below")):
        first, second = rng.sample(singles, 2)
        apart = getattr(second, axis) - getattr(first, axis)
        if abs(apart) >= _CLEAR:
            of = " of" if axis == "x" else ""
            question = f"is the {first.name} {low} or {high}{of} the {second.name}?"
            asked.append(ScenesQuestion(question, low if apart > 0 else high, "relation"))
    return asked


def _comparisons(scene: Scene, rng: random.Random) -> list[ScenesQuestion]:
    """Size between two single objects (by the size classes), number between two shapes."""
    asked = []
    singles = [group[0] for group in _groups(scene) if len(group) == 1]
    if len(singles) >= 2:
        first, second = rng.sample(singles, 2)
        if first.size != second.size:
            bigger = first if SIZES.index(first.size) > SIZES.index(second.size) else second
            question = f"is the {first.name} bigger or smaller than the {second.name}?"
            asked.append(ScenesQuestion(question, "bigger" if bigger is first else "smaller", "comparison"))
    counts = Counter(item.shape for item in scene.objects)
    if len(counts) >= 2:
        left, right = rng.sample(sorted(counts), 2)
        if counts[left] != counts[right]:
            answer = "yes" if counts[left] > counts[right] else "no"
            question = f"are there more {plural(left)} than {plural(right)}?"
            asked.append(ScenesQuestion(question, answer, "comparison"))
    return asked


def entailment(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Return (sentence, label) pairs: entailment, contradiction and neutral, one each.

    Neutral sentences speak of what no picture of this world shows (who put the things there, what they feel like).
    """
    group = rng.choice(_groups(scene))
    other = _absent_pair(scene, rng)
    true = rng.choice(
        [
            f"there {'is' if len(group) == 1 else 'are'} {_phrase(group)} in the picture.",
            f"{_the(group)} {'lies' if len(group) == 1 else 'lie'} on {scene.background}.",
            f"there {'is' if len(scene.objects) == 1 else 'are'} {NUMBER_WORDS[len(scene.objects)]} "
            f"object{'' if len(scene.objects) == 1 else 's'}.",
        ]
    )
    wrong_ground = rng.choice([ground for ground in BACKGROUNDS if ground != scene.background])
    wrong_material = rng.choice([material for material in MATERIALS if material != group[0].material])
    verb = "is" if len(group) == 1 else "are"
    false = rng.choice(
        [
            f"there is {_article(other[0])} {other[0]} {other[1]} in the picture.",
            f"{_the(group)} {'lies' if len(group) == 1 else 'lie'} on {wrong_ground}.",
            f"{_the(group)} {verb} {wrong_material}.",
        ]
    )
    open_question = rng.choice(
        [
            f"a child put {_the(group)} on the {scene.background}.",
            f"{_the(group)} {verb} heavy.",
            f"{_the(group)} {verb} made of metal.",
            f"somebody will take {_the(group)} away.",
        ]
    )
    return [(true, "entailment"), (open_question, "neutral"), (false, "contradiction")]
