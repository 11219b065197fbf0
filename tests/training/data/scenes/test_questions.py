"""Every answer is derived again from the scene, by code that shares nothing with what wrote the question."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from vlkd_training.data.scenes.examples import make_example
from vlkd_training.data.scenes.questions import QUESTION_TYPES
from vlkd_training.data.scenes.vocabulary import COLORS, HELD_OUT_PAIRS, MATERIALS, SHAPES, SIZES, SPLITS
from vlkd_training.data.scenes.world import Scene, SceneObject

COUNT = 1500
ANY = {"color": COLORS, "shape": SHAPES, "size": SIZES, "material": MATERIALS}
FAR = 0.15


def matching(scene: Scene, words: str) -> list[SceneObject]:
    """Objects that a description such as "small red circles" or "black objects" fits."""
    wanted = {}
    for word in words.split():
        single = word if word in SHAPES else word.removesuffix("es") if word == "crosses" else word.removesuffix("s")
        for attribute, values in ANY.items():
            if word in values or single in values:
                wanted[attribute] = word if word in values else single
                break
        else:
            assert single == "object", word
    return [item for item in scene.objects if all(getattr(item, key) == value for key, value in wanted.items())]


def the(scene: Scene, words: str) -> SceneObject:
    """The one object that fits; a question about two would have no answer."""
    found = matching(scene, words)
    assert len(found) == 1, f"'{words}' is not unique"
    return found[0]


def shared(items: list[SceneObject], attribute: str) -> str:
    """The value in which all items agree."""
    values = {getattr(item, attribute) for item in items}
    assert len(values) == 1
    return values.pop()


def side(first: SceneObject, second: SceneObject, axis: str) -> str:
    """left/right or above/below, which must be clear."""
    apart = getattr(first, axis) - getattr(second, axis)
    assert abs(apart) >= FAR
    return {"x": ("left", "right"), "y": ("above", "below")}[axis][apart > 0]


def beside(scene: Scene, where: str, words: str) -> str:
    """Shape of the only object on one side."""
    anchor, axis = the(scene, words), "x" if where in ("left of", "right of") else "y"
    others = [item for item in scene.objects if item is not anchor]
    found = [item for item in others if side(item, anchor, axis) == where.split()[0]]
    assert len(found) == 1
    return found[0].shape


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


def larger(scene: Scene, first: str, word: str, second: str) -> bool:
    one, other = (SIZES.index(the(scene, words).size) for words in (first, second))
    assert one != other
    return one > other if word == "larger" else one < other


def more(scene: Scene, first: str, second: str) -> bool:
    one, other = len(matching(scene, first)), len(matching(scene, second))
    assert one != other
    return one > other


RULES: list[tuple[str, Callable[..., str]]] = [
    (r"what (color|shape) (?:is|are) the (.+)\?", lambda s, a, w: shared(matching(s, w), a)),
    (r"how many (.+) are there\?", lambda s, w: str(len(matching(s, w)))),
    (r"is there an? (.+)\?", lambda s, w: yes(bool(matching(s, w)))),
    (r"are there any (.+)\?", lambda s, w: yes(bool(matching(s, w)))),
    (
        r"is the (\w+ \w+) (left of|right of|above|below) the (.+)\?",
        lambda s, a, r, b: yes(side(the(s, a), the(s, b), "x" if " of" in r else "y") == r.split()[0]),
    ),
    (r"is the (.+) left or right of the (.+)\?", lambda s, a, b: side(the(s, a), the(s, b), "x")),
    (r"is the (.+) above or below the (.+)\?", lambda s, a, b: side(the(s, a), the(s, b), "y")),
    (r"what is (left of|right of|above|below) the (.+)\?", beside),
    (r"is the (.+) (larger|smaller) than the (.+)\?", lambda s, a, w, b: yes(larger(s, a, w, b))),
    (
        r"which is (larger|smaller), the (.+) or the (.+)\?",
        lambda s, w, a, b: the(s, a if larger(s, a, w, b) else b).shape,
    ),
    (r"are there more (.+) than (.+)\?", lambda s, a, b: yes(more(s, a, b))),
    (
        r"are there more (\w+) objects or (\w+) objects\?",
        lambda s, a, b: a if more(s, f"{a} objects", f"{b} objects") else b,
    ),
    (r"what texture (?:is|are) the (.+)\?", lambda s, w: shared(matching(s, w), "material")),
    (r"what size (?:is|are) the (.+)\?", lambda s, w: shared(matching(s, w), "size")),
    (r"what is the background\?", lambda s: s.background),
    (
        r"is the (.+) (\w+)\?",
        lambda s, w, v: yes(getattr(the(s, w), "color" if v in COLORS else "material") == v),
    ),
]


def derive(scene: Scene, question: str) -> str:
    """The answer by the first rule that fits the whole question."""
    for pattern, rule in RULES:
        if found := re.fullmatch(pattern, question):
            return rule(scene, *found.groups())
    raise AssertionError(f"no rule for {question!r}")


def form(question: str) -> str:
    """The question with its colours, shapes and textures blanked out."""
    words = "|".join([*COLORS, *MATERIALS, *SIZES, *(s + "(?:es|s)?" for s in SHAPES)])
    return re.sub(rf"\b(?:{words})\b", "_", question.replace(" an ", " a "))


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_is_true_and_short(split: str) -> None:
    """A wrong answer in the data teaches a lie; this also proves that each question has exactly one answer."""
    for index in range(COUNT // 3):
        example = make_example(split, index)
        asked = example.metadata["qa"]
        assert len(asked) >= 8
        assert len({item["question"] for item in asked}) == len(asked)
        for item in asked:
            assert item["answers"] == [derive(example.scene, item["question"])], item
            assert item["type"] in QUESTION_TYPES and len(item["answers"][0].split()) == 1


@pytest.fixture(scope="module")
def asked() -> list[tuple[str, str, str]]:
    """(type, question, answer) of many training pictures."""
    return [
        (item["type"], item["question"], item["answers"][0])
        for index in range(3000)
        for item in make_example("train", index).metadata["qa"]
    ]


def test_each_yes_no_form_is_balanced(asked: list[tuple[str, str, str]]) -> None:
    """If the wording told the answer, a student would not need the picture."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for _, question, answer in asked:
        if answer in ("yes", "no"):
            forms[form(question)][answer] += 1
    assert len(forms) >= 8
    for name, counts in forms.items():
        total = counts.total()
        # Four standard deviations of a fair coin.
        assert abs(counts["yes"] / total - 0.5) < 4 * 0.5 / total**0.5, (name, counts)


def test_which_of_two_comes_first_tells_nothing(asked: list[tuple[str, str, str]]) -> None:
    """left/right, above/below, and the first/second thing named are equally often the answer."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    axis = {"left": "across", "right": "across", "above": "down", "below": "down"}
    for _, question, answer in asked:
        if answer in axis:
            forms[axis[answer]][answer] += 1
        elif question.startswith(("which is", "are there more")) and answer not in ("yes", "no"):
            forms[form(question)]["first" if question.index(answer) < question.index(" or ") else "second"] += 1
    assert len(forms) == 5
    for name, counts in forms.items():
        low, total = min(counts.values()), counts.total()
        assert len(counts) == 2 and abs(low / total - 0.5) < 4 * 0.5 / total**0.5, (name, counts)


def test_no_answer_leads_its_type(asked: list[tuple[str, str, str]]) -> None:
    """The most frequent answer of each open type stays far from being right half of the time."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, _, answer in asked:
        answers[kind][answer] += 1
    assert set(answers) == set(QUESTION_TYPES)
    limits = {"color": 0.15, "shape": 0.15, "count": 0.35, "relation": 0.25, "material": 0.32, "background": 0.2}
    for kind, limit in limits.items():
        assert max(answers[kind].values()) / answers[kind].total() < limit, kind


def test_training_never_names_a_held_out_pair(asked: list[tuple[str, str, str]]) -> None:
    """Even a question answered with no would tell that the pair never occurs."""
    for _, question, _ in asked:
        for color, shape in HELD_OUT_PAIRS:
            assert not re.search(rf"\b{color} {shape}", question), question
