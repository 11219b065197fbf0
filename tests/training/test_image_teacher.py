"""The unimodal image teacher: what it says, and that student and teacher see the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from transformers import AutoModelForImageClassification

from vlkd_hub.errors import RecipeError
from vlkd_training.build import make_image_processor
from vlkd_training.data import load_records
from vlkd_training.features import RandomView
from vlkd_training.image_teacher import ImageTeacher, cached_teacher_outputs, load_image_teacher

PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_transformer_of_transformers(tiny_image_teacher: Path) -> None:
    """Class token, patches and classes, each from the model's own forward pass."""
    teacher = load_image_teacher(str(tiny_image_teacher), ["logits", "cls", "patches"])
    own = AutoModelForImageClassification.from_pretrained(tiny_image_teacher).eval()
    hidden = own.vit(PIXELS).last_hidden_state
    found = teacher.outputs(PIXELS)
    torch.testing.assert_close(found["logits"], own(PIXELS).logits)
    torch.testing.assert_close(found["cls"], hidden[:, 0])
    torch.testing.assert_close(found["patches"], hidden[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_models_of_timm(name: str) -> None:
    """A convolutional network's class token is what its classifier reads."""
    model = timm.create_model(name, pretrained=False, num_classes=7, **({"img_size": 32} if "vit" in name else {}))
    found = ImageTeacher(model, [0.5] * 3, [0.5] * 3, ["logits", "cls", "patches"]).outputs(PIXELS)
    torch.testing.assert_close(found["logits"], model.eval()(PIXELS))
    features = model.forward_features(PIXELS)
    if name == "test_vit":
        torch.testing.assert_close(found["patches"], features[:, model.num_prefix_tokens :])
    else:
        torch.testing.assert_close(found["logits"], model.classifier(found["cls"]))
        torch.testing.assert_close(found["patches"].mean(dim=1), features.mean(dim=(2, 3)))


@torch.no_grad()
def test_pixels_are_brought_to_the_teachers_normalisation(tiny_image_teacher: Path) -> None:
    """The student's processor made them; the teacher must not see another contrast than it was trained with."""
    teacher = load_image_teacher(str(tiny_image_teacher), ["cls"])
    raw = torch.rand(2, 3, 32, 32)
    expected = teacher.outputs((raw - 0.5) / 0.25)["cls"]
    found = teacher.reads([0.4, 0.3, 0.2], [0.1, 0.2, 0.3])(
        {
            "pixel_values": (raw - torch.tensor([0.4, 0.3, 0.2]).view(3, 1, 1))
            / torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
        }
    )
    torch.testing.assert_close(found["teacher_cls"], expected, atol=1e-5, rtol=1e-4)


def test_a_teacher_never_trains(tiny_image_teacher: Path) -> None:
    """The trainer calls train() on everything it holds."""
    teacher = load_image_teacher(str(tiny_image_teacher), ["cls"]).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_what_a_teacher_cannot_say(tiny_image_teacher: Path, tmp_path: Path) -> None:
    """Classes of a model without a classifier would be random numbers."""
    with pytest.raises(RecipeError, match="asked for probabilities"):
        load_image_teacher(str(tiny_image_teacher), ["probabilities"])
    bare = timm.create_model("test_vit", pretrained=False, num_classes=0)
    with pytest.raises(RecipeError, match="has no classifier"):
        ImageTeacher(bare, [0.5] * 3, [0.5] * 3, ["logits"])


def test_cached_views_are_the_crops_that_the_student_sees(tiny_image_teacher: Path, tmp_path: Path) -> None:
    """View 0 is the plain picture; view 1 the same draw for teacher and student."""
    records = load_records("scenes:5", "train")
    teacher = load_image_teacher(str(tiny_image_teacher), ["cls", "logits"])
    processor = make_image_processor(32, "squash", [0.48] * 3, [0.27] * 3)
    cache = cached_teacher_outputs(teacher, processor, records, tmp_path, views=2, min_area=0.5)
    assert cache["cls"].shape == (2, 5, 16) and cache["logits"].shape == (2, 5, 7)
    for view in (0, 1):
        pictures = [RandomView(view, 0.5)(records[row].load_image(), row) for row in range(5)]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        expected = teacher({"pixel_values": pixels})["teacher_cls"].numpy()
        np.testing.assert_allclose(np.array(cache["cls"][view]), expected, atol=0.05)  # bf16 forward, fp16 store
    assert np.abs(np.array(cache["cls"][0]) - np.array(cache["cls"][1])).max() > 0.05
