"""One complete example: the scene, its words and its picture, fixed by (seed, split, index)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from vlkd_training.data.scenes.captions import write_captions
from vlkd_training.data.scenes.hypotheses import write_hypotheses
from vlkd_training.data.scenes.questions import ask_questions
from vlkd_training.data.scenes.render import object_box, render
from vlkd_training.data.scenes.vocabulary import HELD_OUT_PAIRS, SEEN_PAIRS
from vlkd_training.data.scenes.world import Scene, sample_scene, scene_random

__all__ = ["SceneExample", "file_name", "make_example"]


@dataclass(frozen=True)
class SceneExample:
    """A scene with its words; the picture is drawn on demand."""

    scene: Scene
    metadata: dict[str, Any]
    """A line of ``metadata.jsonl``."""
    size: int

    def draw(self) -> Image.Image:
        """The RGB picture of ``size`` x ``size`` pixels."""
        return render(self.scene, self.size)


def file_name(index: int) -> str:
    """Name of a picture's file."""
    return f"{index:06d}.png"


def make_example(split: str, index: int, *, seed: int = 0, size: int = 160) -> SceneExample:
    """Make example ``index`` of a split; no other example is needed for it.

    Args:
        split: ``train``, ``validation``, ``test`` or ``test_compositional``.
        index: 0 or more.
        seed: the data set's seed.
        size: side of the picture in pixels.

    Raises:
        InvalidInputError: the split is unknown or the index negative.
    """
    scene = sample_scene(split, index, seed)
    pairs = SEEN_PAIRS + HELD_OUT_PAIRS if split == "test_compositional" else SEEN_PAIRS
    metadata = {
        "file_name": file_name(index),
        "captions": write_captions(scene, scene_random(seed, split, index, "captions")),
        "qa": ask_questions(scene, pairs, scene_random(seed, split, index, "questions")),
        "entailment": write_hypotheses(scene, pairs, scene_random(seed, split, index, "hypotheses")),
        "regions": [{"box": object_box(item, size), "tag": item.name} for item in scene.objects],
        "scene_hash": scene.hash,
    }
    return SceneExample(scene=scene, metadata=metadata, size=size)
