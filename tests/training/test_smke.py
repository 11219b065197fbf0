"""`vlkd distill` with a recipe of kind smke: what is built, what the batches hold, what is saved."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from transformers import AutoModel, AutoProcessor

from vlkd_hub.errors import RecipeError
from vlkd_hub.inference import TorchStudent
from vlkd_training.data import load_records
from vlkd_training.recipe import load_recipe
from vlkd_training.rows import CaptionRows
from vlkd_training.smke import Source, head_size_of, run_smke, teacher_of
from vlkd_training.smke_build import build_smke

FROZEN = ["image_encoder.backbone", "text_encoder"]
TEXTS = ["a red circle", "one blue square"]


def written(recipe: dict[str, Any], folder: Path, **train: Any) -> Path:
    content = copy.deepcopy(recipe)
    content["phases"][0]["train"] |= train
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_student_is_the_first_half_of_both_encoders(smke_recipe: dict[str, Any], tmp_path: Path) -> None:
    """Weights are copied, layers cut, and the head has the teacher's width."""
    recipe = load_recipe(written(smke_recipe, tmp_path), "smke")
    teacher = teacher_of(recipe)
    model, processor = build_smke(recipe.student, TEXTS, head_size=head_size_of(recipe, teacher))
    assert model.config.head_size == 16 and model.config.token_type == "scaled"
    assert model.config.image_config.backbone_config["num_hidden_layers"] == 1
    assert model.config.text_config.num_hidden_layers == 1
    own = AutoModel.from_pretrained(recipe.teacher.image)
    embeddings = dict(model.image_encoder.backbone.embeddings.named_parameters())
    for name, value in own.embeddings.named_parameters():
        torch.testing.assert_close(embeddings[name], value)
    layer = dict(model.image_encoder.backbone.layers[0].named_parameters())
    for name, value in own.layers[0].named_parameters():
        torch.testing.assert_close(layer[name], value)
    assert processor.tokenizer.model_max_length == 64
    assert list(processor.image_processor.image_mean) == [0.5] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"token_types": "after"}}, "no field 'token_types'.*Did you mean 'token_type'"),
        ({"image": {"grid": 7}}, "no field 'grid'"),
        ({"text_layers": [9]}, "cannot be kept"),
        ({"vocabulary": "small"}, "'corpus', a number"),
    ],
)
def test_fields_that_nothing_reads_are_refused(
    smke_recipe: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """A config would keep a misspelt field silently and train something else."""
    smke_recipe["student"] |= change
    recipe = load_recipe(written(smke_recipe, tmp_path), "smke")
    with pytest.raises(RecipeError, match=message):
        build_smke(recipe.student, TEXTS, head_size=4)


def test_frozen_towers_are_cached_and_training_ones_are_not(smke_recipe: dict[str, Any], tmp_path: Path) -> None:
    """The same rows give the same scores from the cache as from pixels and words."""
    file = written(smke_recipe, tmp_path, freeze=FROZEN)
    recipe, records = load_recipe(file, "smke"), load_records("scenes:4", "train")
    rows, teacher = CaptionRows(records), teacher_of(load_recipe(file, "smke"))
    torch.manual_seed(0)
    model, processor = build_smke(recipe.student, rows.texts, head_size=16)
    source = Source(recipe, model.eval(), processor, records, rows, teacher, tmp_path / "cache")
    cached, live_teacher = source.collator(recipe.phases[0], {})
    assert live_teacher is None
    live, live_teacher = source.collator(recipe.phases[0], {"freeze": []})
    assert live_teacher is teacher
    live.pictures.augment = False
    cached.pictures.views = 1  # the plain picture
    chosen = [0, 7, 11]
    one, other = cached(chosen), live(chosen)
    assert {"image_backbone_features", "text_hidden_states", "teacher_cls"} <= one.keys()
    assert {"pixel_values", "input_ids"} <= other.keys()
    assert torch.equal(one["attention_mask"], other["attention_mask"])
    names = ("image_backbone_features", "text_hidden_states", "pixel_values", "input_ids", "attention_mask")
    with torch.no_grad():
        scores = [model(**{n: batch[n] for n in names if n in batch}).logits_per_image for batch in (one, other)]
    torch.testing.assert_close(*scores, atol=0.3, rtol=0.05)  # bf16 towers, fp16 store; cosine * 14.3
    said = live_teacher({"pixel_values": other["pixel_values"]})["teacher_cls"]
    torch.testing.assert_close(one["teacher_cls"], said, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("freeze", [FROZEN, []], ids=["cached", "live"])
def test_a_run_ends_in_a_student_that_searches(smke_recipe: dict[str, Any], tmp_path: Path, freeze: list[str]) -> None:
    """Saved without its head, loaded by Auto classes, and it embeds pictures and texts in one space."""
    file = written(smke_recipe, tmp_path, freeze=freeze)
    output = tmp_path / "student"
    metrics = run_smke(file, "scenes:6", output, cache=tmp_path / "cache", limit=6)
    assert metrics["train_loss"] > 0
    model = AutoModel.from_pretrained(output)
    assert model.config.head_size == 0 and model.shared_encoder.head is None
    assert AutoProcessor.from_pretrained(output).tokenizer.model_max_length == 64
    lineage = json.loads((output / "lineage.json").read_text())
    assert lineage["source"] == "a test"
    student = TorchStudent.from_pretrained(output)
    pictures = [load_records("scenes:6", "train")[row].load_image() for row in (0, 1)]
    images, texts = student.embed_images(pictures), student.embed_texts(TEXTS)
    assert images.shape == texts.shape == (2, 16)
    assert (images * images).sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_a_vision_transformer_of_timm_is_cut_too(
    smke_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second block in its new place, everything else copied."""
    source = timm.create_model("test_vit", pretrained=False, depth=4)
    monkeypatch.setattr("vlkd_training.smke_build.load_image_classifier", lambda name: (source, [0.5] * 3, [0.5] * 3))
    smke_recipe["student"] |= {"image_encoder": "timm:test_vit", "image_layers": "every_second", "image_size": 160}
    recipe = load_recipe(written(smke_recipe, tmp_path), "smke")
    model, _ = build_smke(recipe.student, TEXTS, head_size=4)
    assert model.config.image_config.backbone_options == {"depth": 2}
    cut = model.image_encoder.backbone
    torch.testing.assert_close(cut.pos_embed, source.pos_embed)
    for new, old in enumerate((0, 2)):
        torch.testing.assert_close(cut.blocks[new].attn.qkv.weight, source.blocks[old].attn.qkv.weight)


def test_codes_need_a_quantizer(smke_recipe: dict[str, Any], tmp_path: Path) -> None:
    """The width of the head is the size of its codebook."""
    smke_recipe["phases"][0]["method_options"] = {"target": "codes"}
    recipe = load_recipe(written(smke_recipe, tmp_path), "smke")
    with pytest.raises(RecipeError, match="teacher: quantizer"):
        head_size_of(recipe, teacher_of(recipe))


def test_one_head_serves_targets_of_one_width(smke_recipe: dict[str, Any], tmp_path: Path) -> None:
    """16 features and 7 classes cannot share it."""
    second = copy.deepcopy(smke_recipe["phases"][0])
    second["method_options"] = {"target": "classes"}
    smke_recipe["phases"].append(second)
    recipe = load_recipe(written(smke_recipe, tmp_path), "smke")
    with pytest.raises(RecipeError, match="different widths"):
        head_size_of(recipe, teacher_of(recipe))
