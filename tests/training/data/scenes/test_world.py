"""Scenes are fixed by (seed, split, index) and the splits keep what they promise to keep apart."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.scenes.vocabulary import COLORS, HELD_OUT_PAIRS, SEEN_PAIRS, SHAPES, SIZES, SPLITS
from vlkd_training.data.scenes.world import sample_scene

IID = ("train", "validation", "test")


def test_the_world_is_as_wide_as_promised() -> None:
    """The data set's description names these numbers."""
    assert len(SHAPES) >= 6 and len(COLORS) == 10 and len(SIZES) == 3
    assert len(SEEN_PAIRS) + len(HELD_OUT_PAIRS) == len(SHAPES) * len(COLORS)


def test_every_word_is_seen_in_training() -> None:
    """The compositional split must test new pairs, not new words: each word occurs held out and seen."""
    for position, words in ((0, set(COLORS)), (1, set(SHAPES))):
        assert {pair[position] for pair in HELD_OUT_PAIRS} == words
        assert {pair[position] for pair in SEEN_PAIRS} == words


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_does_not_depend_on_the_order_of_making(split: str) -> None:
    """Parallel workers and streams make pictures in any order."""
    forward = [sample_scene(split, index) for index in range(20)]
    assert [sample_scene(split, index) for index in reversed(range(20))] == forward[::-1]


def test_seed_split_and_index_each_change_the_scene() -> None:
    """A seed that is ignored would make every data set the same."""
    scenes = [sample_scene("train", 0), sample_scene("train", 1), sample_scene("test", 0), sample_scene("train", 0, 1)]
    assert len({repr(scene) for scene in scenes}) == 4


def test_no_description_is_in_two_splits() -> None:
    """A test scene that training showed would measure memory."""
    hashes = {split: {sample_scene(split, index).hash for index in range(1500)} for split in SPLITS}
    for first, second in itertools.combinations(SPLITS, 2):
        assert not hashes[first] & hashes[second]


@pytest.mark.parametrize("split", IID)
def test_held_out_pairs_never_show_in_iid_splits(split: str) -> None:
    """One leaked pair would spoil the compositional test."""
    drawn = set().union(*(sample_scene(split, index).pairs() for index in range(3000)))
    assert not drawn & set(HELD_OUT_PAIRS)
    assert drawn == set(SEEN_PAIRS)  # and every other pair does show


def test_every_compositional_scene_holds_a_held_out_pair() -> None:
    """A scene without one would be an ordinary test scene."""
    scenes = [sample_scene("test_compositional", index) for index in range(500)]
    assert all(set(scene.pairs()) & set(HELD_OUT_PAIRS) for scene in scenes)
    assert set(HELD_OUT_PAIRS) <= set().union(*(scene.pairs() for scene in scenes))


def test_objects_lie_inside_and_apart() -> None:
    """Overlapping or cut objects would make counts and relations a matter of taste."""
    for index in range(500):
        objects = sample_scene("train", index).objects
        assert 1 <= len(objects) <= 5
        assert list(objects) == sorted(objects, key=lambda item: item.x)
        for item in objects:
            assert item.radius <= item.x <= 1 - item.radius and item.radius <= item.y <= 1 - item.radius
        for one, other in itertools.combinations(objects, 2):
            assert (one.x - other.x) ** 2 + (one.y - other.y) ** 2 >= (one.radius + other.radius) ** 2


def test_numbers_and_kinds_are_spread() -> None:
    """Each count from 1 to 5 is common, and both equal objects and mixed ones occur."""
    scenes = [sample_scene("train", index) for index in range(2000)]
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {1, 2, 3, 4, 5} and min(counts.values()) > 100
    alike = sum(len(scene.pairs()) == 1 and len(scene.objects) > 1 for scene in scenes)
    assert 400 < alike < 1000


def test_unknown_split_and_negative_index_are_refused() -> None:
    """A typing error must not make a data set of its own."""
    with pytest.raises(InvalidInputError, match="test_compositional; got 'tset'"):
        sample_scene("tset", 0)
    with pytest.raises(InvalidInputError, match="0 or more; got -1"):
        sample_scene("train", -1)
