"""Sentences that a picture makes true, leaves open, or makes false.

True and false sentences come from the same forms, so that only the picture tells them apart. Open ones speak of what no
picture of this kind shows (weight, age, owners), and can be told by their words.
"""

from __future__ import annotations

import random

from vlkd_training.data.scenes.grammar import is_clearly, with_article
from vlkd_training.data.scenes.references import named_objects
from vlkd_training.data.scenes.vocabulary import BACKGROUNDS, MATERIALS, NUMBER_WORDS
from vlkd_training.data.scenes.world import Scene
from vlkd_training.data.scenes.yes_no import Pair, absent_pairs

__all__ = ["write_hypotheses"]

_WORDS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
_OPEN = (
    "the {name} is heavy", "the {name} is made of paper", "the {name} is very old", "a child made the {name}",
    "the {name} belongs to a teacher", "the {name} was here yesterday", "the {name} feels cold",
)  # fmt: skip
_OPEN_WHOLE = ("a child made this picture", "the picture is very old", "the objects are heavy", "the objects feel cold")


def write_hypotheses(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> list[dict[str, str]]:
    """Two sentences of each of entailment and contradiction, one neutral one.

    Args:
        scene: the scene.
        pairs: the (colour, shape) pairs that may be named.
        rng: random stream.

    Returns:
        Dicts with ``hypothesis`` and ``label``.
    """
    forms = [_presence, _number, _ground]
    if named_objects(scene):
        forms.append(_material)
    if _clear(scene):
        forms.append(_place)
    written = []
    for form in rng.sample(forms, 2):
        true, false = form(scene, pairs, rng)
        written += [{"hypothesis": true, "label": "entailment"}, {"hypothesis": false, "label": "contradiction"}]
    names = [item.name for item in named_objects(scene)]
    neutral = rng.choice(_OPEN).format(name=rng.choice(names)) if names else rng.choice(_OPEN_WHOLE)
    written.append({"hypothesis": neutral, "label": "neutral"})
    return written


def _presence(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> tuple[str, str]:
    true, false = rng.choice(scene.objects).pair, rng.choice(absent_pairs(scene, pairs, rng))
    first, second = (f"there is {with_article(' '.join(pair))} in the picture" for pair in (true, false))
    return first, second


def _number(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> tuple[str, str]:
    count = len(scene.objects)
    wrong = rng.choice([number for number in range(1, 6) if number != count])
    first, second = (f"the number of objects is {NUMBER_WORDS[number]}" for number in (count, wrong))
    return first, second


def _ground(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> tuple[str, str]:
    wrong = rng.choice([ground for ground in BACKGROUNDS if ground != scene.background])
    first, second = (f"the background is {ground}" for ground in (scene.background, wrong))
    return first, second


def _material(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> tuple[str, str]:
    item = rng.choice(named_objects(scene))
    wrong = rng.choice([material for material in MATERIALS if material != item.material])
    first, second = (f"the {item.name} is {material}" for material in (item.material, wrong))
    return first, second


def _clear(scene: Scene) -> list[tuple[str, str, str]]:
    named = named_objects(scene)
    return [
        (first.name, relation, second.name)
        for first in named
        for second in named
        for relation in _WORDS
        if first is not second and is_clearly(first, relation, second)
    ]


def _place(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> tuple[str, str]:
    clear = _clear(scene)
    first, relation, second = rng.choice(clear)
    third, other, fourth = rng.choice(clear)
    return f"the {first} is {_WORDS[relation]} the {second}", f"the {third} is {_WORDS[_OPPOSITE[other]]} the {fourth}"
