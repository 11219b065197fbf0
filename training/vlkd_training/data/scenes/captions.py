"""Five captions a scene, each of another form: naming, texture, size, relation, ground and number.

Sentences are lower case, without a full stop, of 6 to 18 words. Things are named from left to right, so that the order
of a caption can be learnt from the picture.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from vlkd_training.data.scenes.grammar import Group, groups_of, is_clearly, join_list, word_count
from vlkd_training.data.scenes.vocabulary import NUMBER_WORDS
from vlkd_training.data.scenes.world import Scene

__all__ = ["MAX_WORDS", "write_captions"]

MAX_WORDS = 18

_RELATIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}


def write_captions(scene: Scene, rng: random.Random) -> list[str]:
    """Write five different captions of a scene.

    Args:
        scene: the scene.
        rng: stream that chooses among the wordings.
    """
    groups = groups_of(scene)
    forms = (_naming, _texture, _size, _relation, _number)
    return [form(scene, groups, rng) for form in forms]


def _list(groups: list[Group], rng: random.Random, *, budget: int, size: bool = False, material: bool = False) -> str:
    """Name the groups within ``budget`` words: details are left out for some of them first, then the articles."""
    order = rng.sample(range(len(groups)), len(groups))
    text = ""
    for article in (True, False):
        for detailed in range(len(groups), -1, -1):
            chosen = set(order[:detailed])
            text = join_list(
                [
                    group.phrase(size=size and i in chosen, material=material and i in chosen, article=article)
                    for i, group in enumerate(groups)
                ]
            )
            if word_count(text) <= budget:
                return text
            if detailed * 2 <= len(groups) and article:
                break
    return text


def _fill(wordings: Iterable[str], groups: list[Group], rng: random.Random, **details: bool) -> str:
    """Put the list of things into one of the wordings, ``{things}`` being its place."""
    wording = rng.choice(list(wordings))
    budget = MAX_WORDS - word_count(wording.replace("{things}", ""))
    return wording.format(things=_list(groups, rng, budget=budget, **details))


def _naming(scene: Scene, groups: list[Group], rng: random.Random) -> str:
    verb = "is" if len(groups[0].members) == 1 else "are"
    ground = scene.background
    return _fill((f"there {verb} {{things}} on the {ground}", f"we see {{things}} on the {ground}"), groups, rng)


def _texture(scene: Scene, groups: list[Group], rng: random.Random) -> str:
    return _fill(("a picture of {things}", "a drawing with {things}"), groups, rng, material=True)


def _size(scene: Scene, groups: list[Group], rng: random.Random) -> str:
    return _fill(("the picture shows {things}", "you can see {things}"), groups, rng, size=True)


def _relation(scene: Scene, groups: list[Group], rng: random.Random) -> str:
    """Two groups of which every member stands clearly on one side of every member of the other, then the rest."""
    clear = [
        (first, relation, second)
        for first in groups
        for second in groups
        for relation in _RELATIONS
        if first is not second and all(is_clearly(a, relation, b) for a in first.members for b in second.members)
    ]
    if not clear:
        if len(groups) == 1:
            return _all_alike(groups[0], rng)
        return _fill((f"on {scene.background}: {{things}}",), groups, rng, size=True, material=True)
    first, relation, second = rng.choice(clear)
    verb = "is" if len(first.members) == 1 else "are"
    text = f"{first.phrase()} {verb} {_RELATIONS[relation]} {second.phrase()}"
    rest = [group for group in groups if group is not first and group is not second]
    if not rest:
        return text
    return f"{text}, with {_list(rest, rng, budget=MAX_WORDS - 1 - word_count(text))}"


def _all_alike(group: Group, rng: random.Random) -> str:
    things = group.phrase(size=True, material=True)
    if len(group.members) == 1:
        return rng.choice((f"the only object is {things}", f"{things} is alone in the picture"))
    return rng.choice((f"the objects are {things}", f"{things} and nothing else"))


def _number(scene: Scene, groups: list[Group], rng: random.Random) -> str:
    count, ground = len(scene.objects), scene.background
    number = f"{NUMBER_WORDS[count]} object{'s' if count > 1 else ''}"
    verb = "lies" if count == 1 else "lie"
    wordings = (f"on the {ground} {verb} {{things}}", f"{number} on {ground}: {{things}}")
    return _fill(wordings, groups, rng, material=len(groups) == 1)
