"""The description of a scene, and the sampling of one from (seed, split, index).

A scene is drawn by rejection until the hash of what it shows falls into the split's share of all hashes. So train,
validation and test can never hold the same description, whatever their sizes, and any picture can be made alone.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.scenes.placement import place
from vlkd_training.data.scenes.vocabulary import (
    BACKGROUNDS,
    DIAMETERS,
    HELD_OUT_PAIRS,
    MATERIALS,
    SEEN_PAIRS,
    SIZES,
    SPLITS,
)

__all__ = ["GENERATOR_VERSION", "Scene", "SceneObject", "sample_scene", "scene_random"]

GENERATOR_VERSION = 1
"""Raise this whenever a change alters any picture or word: it enters every seed and every fingerprint."""

_BUCKETS = 16
_SHARE = {"train": range(12), "validation": range(12, 14), "test": range(14, 16)}
# What a scene may hold: the counts of its groups of equal objects, with their weights.
_LAYOUTS: tuple[tuple[tuple[int, ...], float], ...] = (
    ((1,), 8), ((2,), 7), ((3,), 7), ((4,), 7), ((5,), 7),
    ((2, 1), 6), ((3, 1), 5), ((2, 2), 3), ((4, 1), 4), ((3, 2), 5),
    ((1, 1), 12), ((1, 1, 1), 14), ((1, 1, 1, 1), 8), ((1, 1, 1, 1, 1), 7),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object: what it is and where (centre and radius as parts of the picture's side, y downwards)."""

    shape: str
    color: str
    size: str
    material: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.1
    angle: float = 0.0
    """Rotation in degrees."""

    @property
    def pair(self) -> tuple[str, str]:
        """(colour, shape), the unit of the compositional split."""
        return self.color, self.shape

    @property
    def name(self) -> str:
        """For example ``"red circle"``."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole picture in words: the background and its objects, and the seed of its textures."""

    background: str
    objects: tuple[SceneObject, ...]
    texture_seed: int

    @property
    def hash(self) -> str:
        """Identity of what the scene shows, places apart (32 hex digits): equal hashes may share a caption."""
        return _description_hash(self.background, self.objects)

    def pairs(self) -> Counter[tuple[str, str]]:
        """How often each (colour, shape) occurs."""
        return Counter(item.pair for item in self.objects)


def scene_random(*parts: object) -> random.Random:
    """A random stream named by ``parts``: the same in every process, order and release of Python."""
    name = ":".join(str(part) for part in ("scenes", GENERATOR_VERSION, *parts))
    return random.Random(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big"))


def sample_scene(split: str, index: int, seed: int = 0) -> Scene:
    """Draw picture ``index`` of ``split``.

    Args:
        split: one of ``train``, ``validation``, ``test``, ``test_compositional``.
        index: 0 or more.
        seed: the data set's seed.

    Raises:
        InvalidInputError: the split is unknown or the index negative.
    """
    if split not in SPLITS:
        raise InvalidInputError(f"scenes have the splits {', '.join(SPLITS)}; got {split!r}.")
    if index < 0:
        raise InvalidInputError(f"a scene index is 0 or more; got {index}.")
    rng = scene_random(seed, split, index)
    while True:
        background = rng.choice(BACKGROUNDS)
        objects = _sample_objects(rng, compositional=split == "test_compositional")
        if split in _SHARE and int(_description_hash(background, objects), 16) % _BUCKETS not in _SHARE[split]:
            continue
        placed = place(objects, rng)
        if placed is not None:
            return Scene(background=background, objects=placed, texture_seed=rng.getrandbits(32))


def _sample_objects(rng: random.Random, *, compositional: bool) -> list[SceneObject]:
    """Groups of equal objects with distinct (colour, shape); the first is a held-out pair where asked for."""
    layouts, weights = zip(*_LAYOUTS, strict=True)
    counts = rng.choices(layouts, weights)[0]
    pairs: list[tuple[str, str]] = []
    for position in range(len(counts)):
        pairs.append(_sample_pair(rng, pairs, held_out=compositional and position == 0))
    groups = list(zip(pairs, rng.sample(counts, len(counts)), strict=True))
    rng.shuffle(groups)
    large_left = 2 if sum(counts) <= 3 else 1
    objects: list[SceneObject] = []
    for (color, shape), count in groups:
        size = rng.choice(SIZES if count <= large_left else SIZES[:2])
        if size == "large":
            large_left -= count
        material = rng.choice(MATERIALS)
        for _ in range(count):
            radius = DIAMETERS[size] / 2 * (1 + 0.06 * (rng.random() - 0.5))
            angle = 20 * (rng.random() - 0.5)
            objects.append(
                SceneObject(shape=shape, color=color, size=size, material=material, radius=radius, angle=angle)
            )
    return objects


def _sample_pair(rng: random.Random, taken: list[tuple[str, str]], *, held_out: bool) -> tuple[str, str]:
    """A pair not yet taken. One time in four it shares a colour or a shape with the scene: binding has to be learnt."""
    if held_out:
        return rng.choice(HELD_OUT_PAIRS)
    while True:
        color, shape = rng.choice(SEEN_PAIRS)
        if taken and rng.random() < 0.25:
            if rng.random() < 0.5:
                color = taken[-1][0]
            else:
                shape = taken[-1][1]
        if (color, shape) not in taken and (color, shape) not in HELD_OUT_PAIRS:
            return color, shape


def _description_hash(background: str, objects: list[SceneObject] | tuple[SceneObject, ...]) -> str:
    lines = sorted(f"{item.size} {item.material} {item.color} {item.shape}" for item in objects)
    return hashlib.sha256("|".join([background, *lines]).encode()).hexdigest()[:32]
