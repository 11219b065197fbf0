"""Unimodal encoders so small that an alignment runs in a second, as folders that any loader reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, CLIPImageProcessorPil, ViTConfig, ViTForImageClassification

from vlkd_hub.inference import load_processor

LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="session")
def tiny_image_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of two layers with a classifier of 7 classes, and the processor of its pixels."""
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("tiny-vit") / "vit"
    noise: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = ViTConfig(**LAYERS, **noise, image_size=32, patch_size=16, num_labels=7)
    ViTForImageClassification(config).eval().save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size=size, crop_size=size, image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_text_encoder(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with the tokenizer of the tiny student."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("tiny-bert") / "bert"
    tokenizer = load_processor(tiny_student).tokenizer
    noise: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=len(tokenizer), **LAYERS, **noise)
    BertModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def smke_recipe(tiny_image_teacher: Path, tiny_text_encoder: Path) -> dict[str, Any]:
    """A recipe of kind ``smke`` on the tiny encoders."""
    return {
        "kind": "smke",
        "source": "a test",
        "teacher": {"image": str(tiny_image_teacher)},
        "student": {
            "image_encoder": str(tiny_image_teacher),
            "image_layers": "first_half",
            "text_encoder": str(tiny_text_encoder),
            "text_layers": "first_half",
            "image_size": 32,
            "views": 2,
            "model": {"token_type": "scaled", "num_attention_heads": 2, "intermediate_size": 24},
        },
        "phases": [
            {
                "method": "smke",
                "method_options": {"target": "cls"},
                "train": {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False},
            }
        ],
    }
