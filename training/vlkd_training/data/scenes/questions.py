"""Questions about a scene with one-word answers, each about something that is unique in it."""

from __future__ import annotations

import random

from vlkd_training.data.scenes.grammar import plural
from vlkd_training.data.scenes.references import group_questions, named_objects, unique_references
from vlkd_training.data.scenes.relations import ask_comparisons, ask_relations
from vlkd_training.data.scenes.vocabulary import COLORS, SHAPES
from vlkd_training.data.scenes.world import Scene
from vlkd_training.data.scenes.yes_no import Pair, absent_pairs, ask_yes_no

__all__ = ["QUESTION_TYPES", "ask_questions"]

QUESTION_TYPES: tuple[str, ...] = (
    "color", "shape", "count", "yes/no", "relation", "comparison", "material", "size", "background",
)  # fmt: skip

Asked = list[tuple[str, str]]


def ask_questions(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> list[dict[str, object]]:
    """Ask 8 to 15 different questions.

    Args:
        scene: the scene.
        pairs: the (colour, shape) pairs that a question may name without their being in the scene.
        rng: random stream.

    Returns:
        Dicts with ``question``, ``answers`` (a list of one) and ``type``.
    """
    asked: dict[str, Asked] = {
        "color": _pick(_attribute(scene, "color"), rng, 2),
        "shape": _pick(_attribute(scene, "shape"), rng, 2),
        "count": _counts(scene, pairs, rng),
        "yes/no": ask_yes_no(scene, pairs, rng, 3),
        "relation": ask_relations(scene, rng),
        "comparison": ask_comparisons(scene, rng),
        "material": _pick(_detail(scene, "material", "texture"), rng, 1),
        "size": _pick(_detail(scene, "size", "size"), rng, 1),
        "background": [("what is the background?", scene.background)],
    }
    return [
        {"question": question, "answers": [answer], "type": kind}
        for kind, pairs_ in asked.items()
        for question, answer in pairs_
    ]


def _pick(candidates: Asked, rng: random.Random, number: int) -> Asked:
    return rng.sample(candidates, min(number, len(candidates)))


def _attribute(scene: Scene, kind: str) -> Asked:
    """Questions for a colour or a shape."""
    asked = {question: answer for question, answer, type_ in group_questions(scene) if type_ == kind}
    for item, name in unique_references(scene, hidden=kind):
        asked[f"what {kind} is {name}?"] = getattr(item, kind)
    return list(asked.items())


def _detail(scene: Scene, attribute: str, word: str) -> Asked:
    """Questions for the texture or the size of a thing, or of several things that agree in it."""
    asked = [(f"what {word} is the {item.name}?", getattr(item, attribute)) for item in named_objects(scene)]
    if len({getattr(item, attribute) for item in scene.objects}) == 1 and len(scene.objects) > 1:
        asked.append((f"what {word} are the objects?", getattr(scene.objects[0], attribute)))
    return asked


def _counts(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> Asked:
    """Two questions: first a number is drawn among those the scene offers, so that "one" does not lead."""
    items = scene.objects
    asked = {"how many objects are there?": len(items)}
    for color in sorted({item.color for item in items}):
        asked[f"how many {color} objects are there?"] = sum(item.color == color for item in items)
    for shape in sorted({item.shape for item in items}):
        asked[f"how many {plural(shape)} are there?"] = sum(item.shape == shape for item in items)
    for (color, shape), number in sorted(scene.pairs().items()):
        asked[f"how many {color} {plural(shape)} are there?"] = number
    by_number: dict[int, list[str]] = {}
    for question, number in asked.items():
        by_number.setdefault(number, []).append(question)
    if rng.random() < 0.3:
        by_number[0] = [_nothing(scene, pairs, rng)]
    chosen: Asked = []
    for _ in range(min(2, sum(map(len, by_number.values())))):
        number = rng.choice([number for number, questions in by_number.items() if questions])
        question = rng.choice(by_number[number])
        by_number[number].remove(question)
        chosen.append((question, str(number)))
    return chosen


def _nothing(scene: Scene, pairs: tuple[Pair, ...], rng: random.Random) -> str:
    """A question whose answer is 0."""
    color, shape = rng.choice(absent_pairs(scene, pairs, rng))
    missing_color = [c for c in COLORS if all(item.color != c for item in scene.objects)]
    missing_shape = [s for s in SHAPES if all(item.shape != s for item in scene.objects)]
    things = (f"{color} {plural(shape)}", f"{rng.choice(missing_color)} objects", plural(rng.choice(missing_shape)))
    return f"how many {rng.choice(things)} are there?"
