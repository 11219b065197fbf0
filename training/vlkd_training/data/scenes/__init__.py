"""A small world of coloured shapes: pictures, captions, questions, entailment pairs and regions, without end."""

from __future__ import annotations

from vlkd_training.data.scenes.render import render
from vlkd_training.data.scenes.world import Scene, SceneObject, sample_scene
from vlkd_training.data.scenes.write import describe_scene, write_split

__all__ = ["Scene", "SceneObject", "describe_scene", "render", "sample_scene", "write_split"]
