"""`vlkd finetune` on classes: pictures fine-tuned and probed, texts of GLUE, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
)

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import UnimodalImageModel
from vlkd_training.classify import run_classify
from vlkd_training.methods import ClassifyMethod
from vlkd_training.unimodal_models import load_encoder
from vlkd_training.unimodal_specs import ClassifierSpec, UnimodalTeacherSpec

from .unimodal_toys import TIMM, pictures, recipe, save_bert, words

TRAIN = {"max_steps": 12, "per_device_train_batch_size": 4, "learning_rate": 1e-2}


def save_encoder(folder: Path) -> str:
    """A ViT of timm as `vlkd distill` writes it."""
    spec = UnimodalTeacherSpec(encoder="timm:vit_tiny_patch16_224", pretrained=False, encoder_options=TIMM)
    torch.manual_seed(2)
    found = load_encoder(spec)
    found.module.save_pretrained(folder)
    found.processor.save_pretrained(folder)
    return str(folder)


def image_recipe(folder: Path, data: dict[str, Any], **student: Any) -> Path:
    phase = {"method": "classify", "data": {"validation_split": "validation", **data}, "train": TRAIN}
    return recipe(folder, "classes", kind="classify", student=student, phases=[phase])


class Logits:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


def test_the_loss() -> None:
    """Numbers, smoothed numbers, distributions, and a regression where there is one output."""
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    plain = -logits.log_softmax(-1)[[0, 1], labels].mean()
    torch.testing.assert_close(ClassifyMethod()(Logits(logits), {"labels": labels})["label"], plain)
    mixed = torch.tensor([[0.7, 0.3], [0.5, 0.5]])
    expected = -(mixed * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(ClassifyMethod()(Logits(logits), {"labels": mixed})["label"], expected)
    smooth = 0.9 * plain + 0.1 * -logits.log_softmax(-1).mean()
    torch.testing.assert_close(ClassifyMethod(0.1)(Logits(logits), {"labels": labels})["label"], smooth)
    scores = {"labels": torch.tensor([1.0, 3.0])}
    torch.testing.assert_close(
        ClassifyMethod()(Logits(torch.tensor([[2.0], [3.0]])), scores)["label"], torch.tensor(0.5)
    )


def test_a_probe(tmp_path: Path) -> None:
    """On cached features the head alone learns; the saved classifier loads with its classes and tells them apart."""
    source = save_encoder(tmp_path / "encoder")
    data, file = pictures(tmp_path / "data"), image_recipe(tmp_path, {"views": 1}, probe=True)
    metrics = run_classify(file, data, source, tmp_path / "out", cache=tmp_path / "cache")
    assert metrics["validation/accuracy"] == 1.0
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "blue", 1: "red"}
    before = UnimodalImageModel.from_pretrained(source).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    assert not torch.equal(model.norm.weight, torch.ones(16))


def test_fine_tuning(tmp_path: Path) -> None:
    """Every augmentation of Table 27 and layer decay at once; the encoder changes, the head most."""
    augment = {"rand_augment": "rand-m9-mstd0.5-inc1-n2", "random_erasing": 0.25}
    augment |= {"mixup": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.9, "switch_prob": 0.5}}
    source = save_encoder(tmp_path / "encoder")
    file = image_recipe(tmp_path, augment, layer_decay=0.81)
    metrics = run_classify(file, pictures(tmp_path / "data"), source, tmp_path / "out", overrides={"max_steps": 2})
    assert 0.0 <= metrics["validation/accuracy"] <= 1.0
    before = UnimodalImageModel.from_pretrained(source).backbone
    after = AutoModelForImageClassification.from_pretrained(tmp_path / "out").encoder.backbone
    low, high = (
        (now.norm1.bias - then.norm1.bias).abs().max()
        for now, then in zip((after.blocks[0], after.blocks[3]), (before.blocks[0], before.blocks[3]), strict=True)
    )
    assert 0 < low < high


def test_glue(tmp_path: Path) -> None:
    """Pairs of texts with the head of transformers, scored by the task's own measure."""
    rows = [{"sentence1": words(n), "sentence2": words(n + 50), "label": n % 2} for n in range(8)]
    (tmp_path / "rte").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "rte" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    phase = {"method": "classify", "data": {"max_length": 16}, "train": TRAIN | {"max_steps": 2}}
    file = recipe(tmp_path, "g", kind="classify", student={"modality": "text", "layer_decay": 0.81}, phases=[phase])
    source = save_bert(tmp_path / "bert")
    metrics = run_classify(file, str(tmp_path), source, tmp_path / "out", task="rte")
    assert set(name for name in metrics if "/" in name) == {"validation/accuracy"}
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert type(model) is BertForSequenceClassification and model.config.id2label[1] == "not_entailment"
    with pytest.raises(RecipeError, match="Name the task of GLUE"):
        run_classify(file, str(tmp_path), source, tmp_path / "out")


def test_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="layer_decay has no effect"):
        ClassifierSpec(probe=True, layer_decay=0.81)
    with pytest.raises(RecipeError, match="layer_decay must be above 0"):
        ClassifierSpec(layer_decay=0.0)
    with pytest.raises(RecipeError, match="linear probe is for pictures"):
        ClassifierSpec(modality="text", probe=True)
    source, data = save_encoder(tmp_path / "encoder"), pictures(tmp_path / "data")
    with pytest.raises(RecipeError, match=r"probe: true and no augmentation"):
        run_classify(image_recipe(tmp_path, {"views": 1}), data, source, tmp_path / "out")
    with pytest.raises(RecipeError, match="is for pictures; leave it out"):
        run_classify(image_recipe(tmp_path, {}), data, source, tmp_path / "out", task="rte")
