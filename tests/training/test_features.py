"""Features in the cache belong to one data set, one teacher and one way to make pixels, and to no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlkd_hub.inference import load_processor
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_training.cache import FeatureCache
from vlkd_training.features import cached_backbone_features, cached_image_tokens, cached_text_vectors


class Pictures(list[Any]):
    """Three pictures, each of one colour."""

    def __init__(self, fingerprint: str = "data", shift: int = 0) -> None:
        colours = ((200, 30, 60), (10, 180, 90), (70, 80, 240))
        images = [Image.new("RGB", (40, 36), tuple((value + shift) % 256 for value in each)) for each in colours]
        super().__init__(SimpleNamespace(load_image=lambda image=image: image) for image in images)
        self.fingerprint = fingerprint


class Setup:
    """A tower, its pixels and a cache; counts what went through the backbone."""

    def __init__(self, student: Path, root: Path) -> None:
        model = VlkdForConditionalGeneration.from_pretrained(student)
        self.tower, self.root = model.vlkd.vision_tower.eval(), root
        self.processor = load_processor(student).image_processor
        self.pictures = Pictures()
        self.options: dict[str, Any] = {"bf16": False, "dtype": "float16"}
        self.seen = 0
        look = self.tower.backbone_features

        def counted(pixels: torch.Tensor) -> torch.Tensor:
            self.seen += len(pixels)
            return look(pixels)

        self.tower.backbone_features = counted

    def features(self) -> tuple[FeatureCache, int]:
        """The cache, and how many pictures were looked at for it beside the probe of its shape."""
        before = self.seen
        cache = cached_backbone_features(self.tower, self.processor, self.pictures, self.root, **self.options)
        return cache, self.seen - before - 1


def other_data(setup: Setup) -> None:
    setup.pictures = Pictures("other data", shift=90)


def other_weights(setup: Setup) -> None:
    with torch.no_grad():
        next(setup.tower.backbone.parameters()).add_(0.1)


def other_preprocessing(setup: Setup) -> None:
    setup.processor.image_mean = [0.1, 0.2, 0.3]


def other_precision(setup: Setup) -> None:
    setup.options["dtype"] = "int8"


def more_views(setup: Setup) -> None:
    setup.options["views"] = 2


@pytest.mark.parametrize("change", [other_data, other_weights, other_preprocessing, other_precision, more_views])
def test_features_of_anything_else_are_made_anew(
    tiny_student: Path, tmp_path: Path, change: Callable[[Setup], None]
) -> None:
    setup = Setup(tiny_student, tmp_path)
    first, looked = setup.features()
    assert looked == 3
    again, looked = setup.features()
    assert (again.folder, looked) == (first.folder, 0)
    change(setup)
    other, looked = setup.features()
    assert other.folder != first.folder
    assert looked == 3 * setup.options.get("views", 1)
    fresh = Setup(tiny_student, tmp_path / "elsewhere")
    change(fresh)
    expected, _ = fresh.features()
    assert np.array_equal(np.array(other["features"][0][:3]), np.array(expected["features"][0][:3]))


def test_tokens_follow_their_features_and_their_tower(tiny_student: Path, tmp_path: Path) -> None:
    setup = Setup(tiny_student, tmp_path)

    def tokens() -> Path:
        def double(features: torch.Tensor) -> torch.Tensor:
            return 2 * features

        return cached_image_tokens(setup.tower, double, setup.features()[0], tmp_path).folder

    first = tokens()
    assert tokens() == first
    with torch.no_grad():
        list(setup.tower.parameters())[-1].add_(1.0)
    assert tokens() != first
    second = tokens()
    other_data(setup)
    assert tokens() not in (first, second)


def test_sentence_vectors_follow_texts_tokenizer_and_weights(tiny_student: Path, tmp_path: Path) -> None:
    tokenizer, module = load_processor(tiny_student).tokenizer, torch.nn.Linear(1, 4)
    made: list[int] = []

    def encode(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        made.append(len(inputs["input_ids"]))
        return module(inputs["input_ids"][:, :1].float())

    def folder(texts: list[str]) -> Path:
        return cached_text_vectors(module, tokenizer, encode, texts, 4, tmp_path, kind="a test").folder

    texts = ["a red thing", "a dog"]
    first = folder(texts)
    assert folder(texts) == first and made == [2]
    assert folder(["a red thing", "a cat on a mat"]) != first
    with torch.no_grad():
        module.bias.add_(1.0)
    assert folder(texts) != first and made == [2, 2, 2]
