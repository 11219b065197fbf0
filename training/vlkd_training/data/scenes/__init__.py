"""Scenes: a made-up world of coloured shapes with captions, questions, sentences and boxes, all known to be true.

Everything about a picture follows from (seed, split, index), so pictures can be made in any order, in parallel, or
while training streams them.
"""

from __future__ import annotations

from vlkd_training.data.scenes.examples import SceneExample, make_example
from vlkd_training.data.scenes.vocabulary import HELD_OUT_PAIRS, SPLITS
from vlkd_training.data.scenes.world import GENERATOR_VERSION, Scene, SceneObject, sample_scene
from vlkd_training.data.scenes.writer import SplitPlan, write_split

__all__ = [
    "GENERATOR_VERSION",
    "HELD_OUT_PAIRS",
    "SPLITS",
    "Scene",
    "SceneExample",
    "SceneObject",
    "SplitPlan",
    "make_example",
    "sample_scene",
    "write_split",
]
