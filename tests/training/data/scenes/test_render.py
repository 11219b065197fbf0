"""Pictures show what the scene says, at the place it says, and are the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlkd_training.data.scenes.examples import make_example
from vlkd_training.data.scenes.render import object_box, render
from vlkd_training.data.scenes.vocabulary import BACKGROUNDS, COLORS, MATERIALS, SHAPES
from vlkd_training.data.scenes.world import Scene, SceneObject


def one_object(**attributes: object) -> SceneObject:
    base = {"shape": "circle", "color": "red", "size": "large", "material": "plain", "radius": 0.2}
    return SceneObject(**(base | attributes))  # type: ignore[arg-type]


def picture(*objects: SceneObject, background: str = "stone", size: int = 160) -> np.ndarray:
    return np.asarray(render(Scene(background=background, objects=objects, texture_seed=7), size), dtype=np.int64)


def test_the_same_scene_gives_the_same_bytes() -> None:
    """Caches, fingerprints and golden sets rely on it."""
    example = make_example("train", 3)
    assert example.draw().tobytes() == make_example("train", 3).draw().tobytes()


@pytest.mark.parametrize("size", [64, 160, 224])
def test_the_size_is_as_asked(size: int) -> None:
    """The model's processor expects what the data set declares."""
    drawn = make_example("train", 0, size=size).draw()
    assert drawn.size == (size, size) and drawn.mode == "RGB"


@pytest.mark.parametrize("color", COLORS)
def test_a_plain_object_has_its_colour(color: str) -> None:
    """The colour name and the pixels must agree."""
    assert np.abs(picture(one_object(color=color))[80, 80] - COLORS[color]).max() <= 2


def test_a_ring_has_a_hole() -> None:
    """Through it one sees the ground."""
    empty, ring = picture(), picture(one_object(shape="ring"))
    assert np.abs(ring[80, 80] - empty[80, 80]).max() < 60
    assert np.abs(ring[80, 80 + 24] - COLORS["red"]).max() <= 2


@pytest.mark.parametrize("shape", SHAPES)
def test_the_box_is_where_the_object_is(shape: str) -> None:
    """Nothing but its soft shadow lies outside, and the object touches each side of its box."""
    item = one_object(shape=shape, x=0.4, y=0.6, angle=8.0)
    left, top, right, bottom = object_box(item, 160)
    changed = np.abs(picture(item) - picture()).max(axis=2)
    drawn = changed > 75  # shadows change less on stone
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert max(abs(a - b) for a, b in zip(found, (left, top, right, bottom), strict=True)) <= 3


@pytest.mark.parametrize("ground", BACKGROUNDS)
def test_objects_stand_out_from_every_ground(ground: str) -> None:
    """Each colour differs from the ground on average, or its outline would have to carry the shape alone."""
    empty = picture(background=ground).reshape(-1, 3).mean(axis=0)
    for color, rgb in COLORS.items():
        assert np.abs(empty - rgb).max() >= 18, (ground, color)


def test_materials_look_different() -> None:
    """Questions ask for them."""
    looks = [picture(one_object(material=material))[48:112, 48:112] for material in MATERIALS]
    for one in range(len(looks)):
        for other in range(one):
            assert np.abs(looks[one] - looks[other]).mean() > 5


def test_objects_do_not_change_each_other() -> None:
    """Two objects apart give the union of both pictures."""
    left, right = one_object(x=0.25, radius=0.15), one_object(x=0.75, color="blue", radius=0.15)
    both = picture(left, right)
    assert (both[:, :80] == picture(left)[:, :80]).all() and (both[:, 80:] == picture(right)[:, 80:]).all()


def test_size_is_visible() -> None:
    """A large object covers more pixels than a medium one, and that more than a small one."""
    areas = []
    for radius in (0.0825, 0.125, 0.185):
        item = dataclasses.replace(one_object(), radius=radius)
        areas.append(int((np.abs(picture(item) - picture()).max(axis=2) > 75).sum()))
    assert areas[0] * 1.5 < areas[1] and areas[1] * 1.5 < areas[2]
