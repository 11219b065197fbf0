"""Augmented batches: what Table 27 asks of timm, the same from the same random numbers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import RandomHorizontalFlip
from transformers import CLIPImageProcessorPil

from vlkd_hub.errors import RecipeError
from vlkd_training.image_batches import ImageCollator, make_mixup, train_transform

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
PROCESSOR = CLIPImageProcessorPil(
    size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2] * 3
)


class Picture:
    def __init__(self, seed: int) -> None:
        self.pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)

    def load_image(self) -> Image.Image:
        return Image.fromarray(self.pixels)


RECORDS = [Picture(seed) for seed in range(4)]


def options(name: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["phases"][0]["data"]


def find(transform: Any, kind: type) -> Any:
    return next(step for step in transform.transforms if isinstance(step, kind))


@pytest.mark.parametrize("name", ["data2vec2-image", "imagenet-finetune", "imagenet-probe"])
def test_crop_and_flip(name: str) -> None:
    """Tables 26 and 27: an area of 0.08 to 1.0 brought to the model's side, flipped half of the time."""
    transform = train_transform(PROCESSOR, options(name))
    crop = find(transform, RandomResizedCropAndInterpolation)
    assert (crop.size, tuple(crop.scale)) == ((32, 32), (0.08, 1.0))
    assert find(transform, RandomHorizontalFlip).p == 0.5


@pytest.mark.parametrize("name", ["imagenet-finetune", "imagenet-probe"])
def test_table_27(name: str) -> None:
    """RandAugment 9 / 0.5 / increasing / 2 operations; mixup 0.8, cutmix 1.0, 0.9, 0.5, smoothing 0.1."""
    transform = train_transform(PROCESSOR, options(name))
    augment = find(transform, RandAugment)
    assert augment.num_layers == 2
    assert {(op.magnitude, op.magnitude_std) for op in augment.ops} == {(9, 0.5)}
    assert any("Increasing" in op.name for op in augment.ops)
    erase = find(transform, RandomErasing)
    assert (erase.probability, erase.rand_color, erase.per_pixel) == (0.25, False, True)
    mixup = make_mixup(options(name), 10)
    assert mixup is not None
    found = (mixup.mixup_alpha, mixup.cutmix_alpha, mixup.mix_prob, mixup.switch_prob, mixup.label_smoothing)
    assert found == (0.8, 1.0, 0.9, 0.5, 0.1)


def test_the_same_batch_from_the_same_random_numbers() -> None:
    """A resumed run restores torch's numbers alone; timm's own come from Python and numpy, which are left as found."""
    data = options("imagenet-finetune")
    collate = ImageCollator(RECORDS, train_transform(PROCESSOR, data), [0, 1, 2, 3], make_mixup(data, 4))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    before = (random.getstate(), np.random.get_state()[1].tolist())
    first, other = collate([0, 1, 2, 3]), collate([0, 1, 2, 3])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    torch.set_rng_state(state)
    random.seed(99)
    np.random.seed(99)
    again = collate([0, 1, 2, 3])
    assert torch.equal(first["pixel_values"], again["pixel_values"]) and torch.equal(first["labels"], again["labels"])
    assert not torch.equal(first["pixel_values"], other["pixel_values"])
    torch.testing.assert_close(first["labels"].sum(dim=1), torch.ones(4))
    assert first["pixel_values"].shape == (4, 3, 32, 32)


def test_without_augmentation_pixels_are_normalised() -> None:
    """A whole-picture crop without flip keeps the mean colour; mean and deviation are the processor's."""
    transform = train_transform(PROCESSOR, {"crop": [1.0, 1.0], "flip": 0.0})
    torch.manual_seed(0)
    grey = Image.new("RGB", (32, 32), (51, 102, 153))
    expected = (torch.tensor([0.2, 0.4, 0.6]) - torch.tensor([0.4, 0.5, 0.6])) / 0.2
    torch.testing.assert_close(transform(grey).mean(dim=(1, 2)), expected, atol=1e-5, rtol=0)


def test_wrong_options() -> None:
    with pytest.raises(RecipeError, match="crop is a range"):
        train_transform(PROCESSOR, {"crop": [0.0, 1.0]})
    with pytest.raises(RecipeError, match="probabilities"):
        train_transform(PROCESSOR, {"flip": 2.0})
    with pytest.raises(RecipeError, match="no option 'alpha'"):
        make_mixup({"mixup": {"alpha": 1.0}}, 3)
    collate = ImageCollator(RECORDS, train_transform(PROCESSOR, {}), [0, 1, 2, 3], make_mixup({"mixup": {}}, 4))
    with pytest.raises(RecipeError, match="in pairs"):
        collate([0, 1, 2])
    assert make_mixup({}, 3) is None
