"""Yes/no questions: each form draws its answer first, by a fair coin, so that the words alone tell nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

from vlkd_training.data.scenes.grammar import is_clearly, plural, with_article
from vlkd_training.data.scenes.references import named_objects, unique_references
from vlkd_training.data.scenes.vocabulary import COLORS, MATERIALS, SHAPES
from vlkd_training.data.scenes.world import Scene

__all__ = ["Pair", "absent_pairs", "ask_yes_no"]

Pair = tuple[str, str]
Candidates = tuple[list[str], list[str]]
"""Questions to be answered with yes, and with no."""


def ask_yes_no(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random, number: int) -> list[tuple[str, str]]:
    """Ask ``number`` questions of different forms; the first asks whether some coloured shape is there.

    Args:
        scene: the scene.
        pairs: the (colour, shape) pairs that may be named.
        rng: random stream.
        number: how many at most.

    Returns:
        (question, ``"yes"`` or ``"no"``) pairs.
    """
    others: list[Callable[[Scene, tuple[Pair, ...], random.Random], Candidates]]
    others = [_any_shape, _any_color, _has_color, _has_material, _stands]
    rng.shuffle(others)
    asked: list[tuple[str, str]] = []
    for form in (_any_pair, *others):
        yes, no = form(scene, pairs, rng)
        # A form that could only be answered one way here would lean: it is left out.
        if yes and no and len(asked) < number:
            asked.append((rng.choice(yes), "yes") if rng.random() < 0.5 else (rng.choice(no), "no"))
    return asked


def absent_pairs(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> list[Pair]:
    """Pairs not in the scene; half of the time only those whose colour or shape is in it, which are harder to deny."""
    absent = [pair for pair in pairs if pair not in scene.pairs()]
    colors, shapes = {item.color for item in scene.objects}, {item.shape for item in scene.objects}
    both = [pair for pair in absent if pair[0] in colors and pair[1] in shapes]
    one = [pair for pair in absent if pair[0] in colors or pair[1] in shapes]
    draw = rng.random()
    return both if both and draw < 0.3 else one if draw < 0.6 else absent


def _any_pair(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Candidates:
    def ask(pair: Pair) -> str:
        return f"is there {with_article(' '.join(pair))}?"

    return [ask(pair) for pair in scene.pairs()], [ask(pair) for pair in absent_pairs(scene, pairs, rng)]


def _any_shape(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Candidates:
    present = {item.shape for item in scene.objects}
    asked = {shape: f"are there any {plural(shape)}?" for shape in SHAPES}
    return [asked[s] for s in SHAPES if s in present], [asked[s] for s in SHAPES if s not in present]


def _any_color(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Candidates:
    present = {item.color for item in scene.objects}
    asked = {color: f"are there any {color} objects?" for color in COLORS}
    return [asked[c] for c in COLORS if c in present], [asked[c] for c in COLORS if c not in present]


def _has_color(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Candidates:
    references = unique_references(scene, hidden="color")
    if not references:
        return [], []
    item, name = rng.choice(references)
    others = [color for color in COLORS if color != item.color and (color, item.shape) in pairs]
    return [f"is {name} {item.color}?"], [f"is {name} {color}?" for color in others]


def _has_material(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Candidates:
    named = named_objects(scene)
    if not named:
        return [], []
    item = rng.choice(named)
    others = [material for material in MATERIALS if material != item.material]
    return [f"is the {item.name} {item.material}?"], [f"is the {item.name} {material}?" for material in others]


def _stands(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Candidates:
    """Symmetric: each clear pair of objects gives one question of either answer a direction."""
    named = named_objects(scene)
    words = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    yes, no = [], []
    for first in named:
        for second in named:
            for relation in words:
                if first is not second and is_clearly(first, relation, second):
                    yes.append(f"is the {first.name} {words[relation]} the {second.name}?")
                    no.append(f"is the {first.name} {words[opposite[relation]]} the {second.name}?")
    return yes, no
