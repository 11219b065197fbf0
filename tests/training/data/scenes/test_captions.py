"""Captions and sentences say what the scene holds, in the promised length and variety."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from vlkd_training.data.scenes.captions import MAX_WORDS
from vlkd_training.data.scenes.examples import make_example
from vlkd_training.data.scenes.vocabulary import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    MATERIALS,
    NUMBER_WORDS,
    SHAPES,
    SIZES,
    SPLITS,
)
from vlkd_training.data.scenes.world import Scene, SceneObject

THING = re.compile(
    rf"(?:\b(?P<count>{'|'.join(NUMBER_WORDS[1:])}) )?(?:\b(?P<size>{'|'.join(SIZES)}) )?"
    rf"(?:\b(?P<material>{'|'.join(MATERIALS)}) )?"
    rf"\b(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})(?:es|s)?\b"
)
PLACES = {"left of": ("x", -1), "right of": ("x", 1), "above": ("y", -1), "below": ("y", 1)}


def named(scene: Scene, text: str) -> list[list[SceneObject]]:
    """The objects behind each thing that a text names; fails where the text says something untrue of them."""
    found = []
    for match in THING.finditer(text):
        items = [item for item in scene.objects if item.pair == (match["color"], match["shape"])]
        assert len(items) == (NUMBER_WORDS.index(match["count"]) if match["count"] else 1), (text, match[0])
        for attribute in ("size", "material"):
            if match[attribute]:
                assert {getattr(item, attribute) for item in items} == {match[attribute]}, (text, match[0])
        found.append(items)
    return found


def check_places(scene: Scene, text: str) -> None:
    """A relation between the first two things named must hold for all of their objects."""
    relation = re.search(r"\b(left of|right of|above|below)\b", text)
    if relation:
        first, second = named(scene, text)[:2]
        axis, sign = PLACES[relation[1]]
        assert all(sign * (getattr(a, axis) - getattr(b, axis)) >= 0.15 for a in first for b in second), text


@pytest.mark.parametrize("split", SPLITS)
def test_captions_are_true_different_and_of_fair_length(split: str) -> None:
    """Each caption is parsed back and held against the scene."""
    for index in range(500):
        example = make_example(split, index)
        captions = example.metadata["captions"]
        assert len(set(captions)) == 5
        for text in captions:
            assert 6 <= len(text.split()) <= MAX_WORDS and text == text.lower()
            assert len(named(example.scene, text)) == len(example.scene.pairs()), text  # all of it is named
            check_places(example.scene, text)
            for ground in BACKGROUNDS:
                assert ground == example.scene.background or not re.search(rf"\b{ground}\b", text)
            if number := re.match(r"(\w+) objects? on", text):
                assert NUMBER_WORDS.index(number[1]) == len(example.scene.objects)


def test_a_caption_mostly_points_to_one_picture() -> None:
    """Recall at 1 would have a low ceiling if many pictures shared their captions."""
    captions = Counter(text for index in range(500) for text in make_example("test", index).metadata["captions"])
    assert sum(times for times in captions.values() if times > 1) < 0.05 * captions.total()


def test_the_vocabulary_is_small() -> None:
    """A decoder learns these words from a few thousand captions."""
    words = Counter(
        word
        for index in range(1000)
        for text in make_example("train", index).metadata["captions"]
        for word in re.findall(r"\w+", text)
    )
    assert len(words) < 100 and min(words.values()) > 5


def holds(scene: Scene, text: str) -> bool:
    """Whether a sentence of the closed forms is true."""
    if found := re.fullmatch(r"the number of objects is (\w+)", text):
        return NUMBER_WORDS.index(found[1]) == len(scene.objects)
    if found := re.fullmatch(r"the background is (\w+)", text):
        return found[1] == scene.background
    if found := re.fullmatch(r"there is an? (\w+) (\w+) in the picture", text):
        return (found[1], found[2]) in scene.pairs()
    objects = {item.name: item for item in scene.objects}
    if found := re.fullmatch(r"the (\w+ \w+) is (left of|right of|above|below) the (\w+ \w+)", text):
        axis, sign = PLACES[found[2]]
        return sign * (getattr(objects[found[1]], axis) - getattr(objects[found[3]], axis)) >= 0.15
    found = re.fullmatch(r"the (\w+ \w+) is (\w+)", text)
    assert found and found[2] in MATERIALS, text
    return objects[found[1]].material == found[2]


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_carry_the_right_label(split: str) -> None:
    """Entailed sentences hold, contradictions do not, and neutral ones are of forms that no scene decides."""
    for index in range(500):
        example = make_example(split, index)
        labels = Counter(item["label"] for item in example.metadata["entailment"])
        assert labels == {"entailment": 2, "contradiction": 2, "neutral": 1}
        for item in example.metadata["entailment"]:
            if item["label"] == "neutral":
                assert re.search(r"heavy|paper|old|child|teacher|yesterday|cold", item["hypothesis"])
            else:
                assert holds(example.scene, item["hypothesis"]) == (item["label"] == "entailment"), item


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_iid_splits_never_name_a_held_out_pair(split: str) -> None:
    """Words of a pair may occur, the pair may not."""
    for index in range(1000):
        metadata = make_example(split, index).metadata
        texts = [*metadata["captions"], *(item["hypothesis"] for item in metadata["entailment"])]
        texts += [region["tag"] for region in metadata["regions"]]
        for color, shape in HELD_OUT_PAIRS:
            assert not any(f"{color} {shape}" in text for text in texts)
