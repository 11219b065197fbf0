"""The unimodal image teacher: its class distribution, its class token, its patches, live or cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, CLIPImageProcessor

from vlkd_hub.errors import RecipeError
from vlkd_hub.hub.loading import load_whole

from .cache import ArraySpec, FeatureCache, fingerprint, weights_fingerprint
from .checks import check_finite
from .encoders import load_image_classifier
from .features import RandomView, iterate_pixels, preprocessing_of, progress

__all__ = ["OUTPUTS", "ImageTeacher", "cached_teacher_outputs", "load_image_teacher"]

OUTPUTS = ("logits", "cls", "patches")
"""What a teacher can be asked for: its classes (batch, C), its class token (batch, D), its patches (batch, N, D)."""


class ImageTeacher(nn.Module):
    """A frozen image model, always in eval mode.

    A convolutional network has no class token; its pooled features stand for it.

    Args:
        model: of timm, or of transformers.
        mean: per channel, of the teacher's own normalisation.
        std: per channel.
        wanted: some of :data:`OUTPUTS`.

    Raises:
        RecipeError: classes are wanted of a model that has no classifier.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], wanted: Sequence[str]) -> None:
        super().__init__()
        self.model, self.wanted = model.eval().requires_grad_(False), tuple(wanted)
        self.of_timm = hasattr(model, "forward_features")
        classes = model.num_classes if self.of_timm else getattr(model.config, "num_labels", 0)
        has_classifier = bool(classes) if self.of_timm else hasattr(model, "classifier")
        if "logits" in self.wanted and not has_classifier:
            raise RecipeError(
                "The target is the teacher's classes, and this teacher has no classifier; take one that was trained "
                "supervised, or another target."
            )
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.student_mean, self.student_std = self.mean, self.std

    def reads(self, mean: Sequence[float], std: Sequence[float]) -> ImageTeacher:
        """Say how the pixels of a batch were normalised, for the student; they are brought to the teacher's own."""
        self.student_mean, self.student_std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        return self

    def train(self, mode: bool = True) -> ImageTeacher:
        """A teacher is always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Add ``teacher_logits``, ``teacher_cls``, ``teacher_patches`` of ``pixel_values``, as they are wanted."""
        pixels = batch["pixel_values"]
        here = pixels.device
        pixels = (pixels * self.student_std.to(here) + self.student_mean.to(here) - self.mean) / self.std
        return {f"teacher_{name}": value for name, value in self.outputs(pixels).items()}

    @torch.no_grad()
    def outputs(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Ask the teacher about pixels of its own normalisation, shape ``(batch, 3, H, W)``."""
        found = self._of_timm(pixels) if self.of_timm else self._of_transformers(pixels)
        return {name: found[name].float() for name in self.wanted}

    def _of_timm(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.model.forward_features(pixels)
        found = {}
        if features.dim() == 4:  # (B, C, H, W)
            found["cls"] = self.model.forward_head(features, pre_logits=True)
            found["patches"] = features.flatten(2).transpose(1, 2)
        else:
            found["cls"], found["patches"] = features[:, 0], features[:, self.model.num_prefix_tokens :]
        if "logits" in self.wanted:
            found["logits"] = self.model.forward_head(features)
        return found

    def _of_transformers(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        base: Any = getattr(self.model, str(self.model.base_model_prefix), self.model)
        found = {}
        if set(self.wanted) - {"logits"}:
            hidden = base(pixel_values=pixels).last_hidden_state
            found["cls"], found["patches"] = hidden[:, 0], hidden[:, 1:]
        if "logits" in self.wanted:
            found["logits"] = self.model(pixel_values=pixels).logits
        return found


def load_image_teacher(name: str, wanted: Sequence[str]) -> ImageTeacher:
    """Load ``"efficientnet-lite0"``, ``"timm:ARCH"``, or a Hub id / folder of an image model of transformers.

    Raises:
        RecipeError: an output is unknown, or classes are wanted of a model without a classifier.
    """
    unknown = [item for item in wanted if item not in OUTPUTS]
    if unknown:
        raise RecipeError(f"A teacher gives {', '.join(OUTPUTS)}; asked for {', '.join(unknown)}.")
    if name.startswith("timm:") or name == "efficientnet-lite0":
        model, mean, std = load_image_classifier(name)
        return ImageTeacher(model, mean, std, wanted)
    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    classifies = any("ForImageClassification" in item for item in config.architectures or [])
    loader = AutoModelForImageClassification if classifies and "logits" in wanted else AutoModel
    processor = CLIPImageProcessor.from_pretrained(name)
    model = load_whole(loader, name, new=("pooler",))
    return ImageTeacher(model, list(processor.image_mean), list(processor.image_std), wanted)


def cached_teacher_outputs(
    teacher: ImageTeacher,
    image_processor: Any,
    records: Any,
    root: Path,
    *,
    views: int = 1,
    min_area: float = 0.9,
    dtype: str = "float16",
) -> FeatureCache:
    """What the teacher says of every picture; one array of each wanted output, shape ``(views, pictures, ...)``.

    View v of picture r is the crop that :func:`vlkd_training.features.cached_backbone_features` makes of it too, so
    teacher and student see the same pixels.

    Args:
        teacher: asked for the outputs that it was loaded with.
        image_processor: the student's; its normalisation is replaced by the teacher's.
        records: the pictures.
        root: folder of the caches.
        views: the plain picture first, then random crops and flips of it.
        min_area: least area of a crop, as a part of the picture.
        dtype: how the outputs are kept.

    Raises:
        DataError: the teacher gave NaN or infinity, or the disk is too small.
    """
    size = image_processor.crop_size["height"]
    with torch.inference_mode():
        probe = teacher.outputs(torch.zeros(1, 3, size, size))
    shapes = {name: (views, len(records), *value.shape[1:]) for name, value in probe.items()}
    key = {
        "kind": "image_teacher",
        "data": records.fingerprint,
        "weights": weights_fingerprint(teacher.model),
        "preprocessing": fingerprint(preprocessing_of(image_processor)),
        "normalisation": [teacher.mean.flatten().tolist(), teacher.std.flatten().tolist()],
        "shapes": shapes,
        "min_area": min_area if views > 1 else None,
        "dtype": dtype,
    }
    teacher.reads(image_processor.image_mean, image_processor.image_std)

    def fill(arrays: dict[str, Any]) -> None:
        with progress("image teacher", views * len(records)) as bar:
            for view in range(views):
                for at, pixels in iterate_pixels(records, image_processor, augment=RandomView(view, min_area)):
                    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                        found = teacher({"pixel_values": pixels.contiguous(memory_format=torch.channels_last)})
                    for name in shapes:
                        values = found[f"teacher_{name}"].numpy()
                        check_finite(values, f"teacher's {name}", at.start, dtype=dtype)
                        arrays[name][view, at] = values
                    bar.update(len(pixels))

    specs = {name: ArraySpec(shape, dtype, lead=2) for name, shape in shapes.items()}
    return FeatureCache.open_or_build(root, key, specs, fill)
