"""Batches of pictures, augmented while they are read."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from timm.data import Mixup, create_transform
from torch.utils.data import Dataset

from vlkd_hub.errors import RecipeError

__all__ = ["AUGMENT_OPTIONS", "ImageCollator", "NumberedRows", "make_mixup", "train_transform"]

AUGMENT_OPTIONS = ("crop", "flip", "rand_augment", "random_erasing", "mixup")
_MIXUP = {"mixup_alpha", "cutmix_alpha", "prob", "switch_prob", "label_smoothing"}


class NumberedRows(Dataset[int]):
    """Row numbers of pictures or texts; the collator reads them."""

    def __init__(self, records: Sequence[Any]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> int:
        return row


def train_transform(image_processor: Any, data: dict[str, Any]) -> Any:
    """What turns a picture into augmented pixels; timm's pipeline with Pillow's bicubic resize.

    Args:
        image_processor: gives the side, mean and standard deviation.
        data: of a phase: ``crop``, the range of the area of a random crop; ``flip``, the probability of a horizontal
            flip; ``rand_augment``, a string as timm reads it (``rand-m9-mstd0.5-inc1-n2``: magnitude 9 with standard
            deviation 0.5, increasing severity, 2 operations); ``random_erasing``, its probability.

    Raises:
        RecipeError: a value that is out of range.

    Source: 004_3cb4412af0da3ec5.txt, section 3.1.1.2 and Tables 26, 27.
    """
    low, high = data.get("crop", (0.08, 1.0))
    flip, erasing = data.get("flip", 0.5), data.get("random_erasing", 0.0)
    if not 0.0 < low <= high <= 1.0:
        raise RecipeError(f"crop is a range of areas above 0 and up to 1, got {[low, high]}.")
    if not (0.0 <= flip <= 1.0 and 0.0 <= erasing <= 1.0):
        raise RecipeError(f"flip and random_erasing are probabilities, got {flip} and {erasing}.")
    return create_transform(
        input_size=_side(image_processor),
        is_training=True,
        scale=(low, high),
        hflip=flip,
        color_jitter=0.0,
        auto_augment=data.get("rand_augment"),
        interpolation="bicubic",
        mean=tuple(image_processor.image_mean),
        std=tuple(image_processor.image_std),
        re_prob=erasing,
        re_mode="pixel",
    )


def make_mixup(data: dict[str, Any], classes: int) -> Mixup | None:
    """timm's mixup and cutmix of whole batches; ``None`` where a phase has no ``mixup``.

    Raises:
        RecipeError: an option it does not have.
    """
    options = data.get("mixup")
    if options is None:
        return None
    if unknown := sorted(set(options) - _MIXUP):
        raise RecipeError(f"mixup has no option {unknown[0]!r}; it has: {', '.join(sorted(_MIXUP))}.")
    return Mixup(**options, num_classes=classes)


class ImageCollator:
    """Reads pictures and makes a batch of them.

    timm draws from Python's and numpy's random numbers; both are seeded from torch's for each batch and put back, so
    that a resumed run, which restores torch's, makes the same pictures again.

    Args:
        records: with ``load_image()``.
        transform: a picture to pixels, shape ``(3, side, side)``.
        labels: numbers of the classes, one a record.
        mixup: mixes a batch and its labels; labels are then distributions, shape ``(batch, classes)``.
    """

    def __init__(
        self,
        records: Sequence[Any],
        transform: Any,
        labels: Sequence[int] | None = None,
        mixup: Mixup | None = None,
    ) -> None:
        self.records, self.transform, self.labels, self.mixup = records, transform, labels, mixup

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return ``pixel_values`` and, where there are labels, ``labels``.

        Raises:
            RecipeError: an odd number of pictures with mixup, which mixes them in pairs.
        """
        with _seeded(int(torch.randint(2**31, (1,)))):
            pixels = torch.stack([self.transform(self.records[row].load_image()) for row in rows])
            if self.labels is None:
                return {"pixel_values": pixels}
            labels = torch.tensor([self.labels[row] for row in rows])
            if self.mixup is not None:
                if len(rows) % 2:
                    raise RecipeError(f"mixup takes pictures in pairs; make the batch of {len(rows)} an even one.")
                pixels, labels = self.mixup(pixels, labels)
            return {"pixel_values": pixels, "labels": labels}


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


def _side(image_processor: Any) -> int:
    size = image_processor.crop_size if image_processor.do_center_crop else image_processor.size
    return int(size["height"])
