"""A teacher, a text encoder and recipes so small that a whole ladder runs in seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, BertModel

from vlkd_hub.inference import load_processor
from vlkd_hub.models import DualEncoderConfig, DualEncoderModel, DualEncoderProcessor
from vlkd_training.paper.vlkd_jobs import SCENES, Domain

TRAIN = {"max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False}


@pytest.fixture(scope="module", autouse=True)
def plain_tokenizer() -> Iterator[None]:
    """CIDEr without Java, whose start would be most of the time; both sides of every comparison here use the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlkd_training.evaluation.tokenizer.has_java", lambda: False)
        yield


@pytest.fixture(scope="session")
def tiny_teacher(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder of the tiny student's two encoders."""
    config = AutoConfig.from_pretrained(tiny_student)
    torch.manual_seed(1)
    shared = {"projection_dim": config.projection_dim, "vision_config": config.vision_config}
    model = DualEncoderModel(DualEncoderConfig(text_config=config.text_encoder, **shared)).eval()
    processor = load_processor(tiny_student)
    folder = tmp_path_factory.mktemp("tiny-teacher") / "teacher"
    model.save_pretrained(folder)
    DualEncoderProcessor(processor.image_processor, processor.tokenizer).save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with its tokenizer, as a folder: other weights than the teacher's."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("tiny-encoder") / "bert"
    BertModel(AutoConfig.from_pretrained(tiny_student).text_encoder, add_pooling_layer=False).save_pretrained(folder)
    load_processor(tiny_student).tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_domain(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Domain:
    """Scenes with recipes of six steps."""
    folder = tmp_path_factory.mktemp("recipes")
    student: dict[str, Any] = {
        "text_encoder": str(tiny_encoder),
        "image_features": "all_tokens",
        "decoder": {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32},
    }
    every = {**TRAIN, "checkpoint_every_s": 1e-6}
    distil = {
        "kind": "distill",
        "source": "a test",
        "student": student,
        "tasks": {"caption": {"max_new_tokens": 6}, "vqa": {"max_new_tokens": 3}},
        "phases": [
            {"method": "text_infilling", "train": {**TRAIN, "freeze": ["vlkd", "text_to_decoder"]}},
            {"method": "vlkd", "data": {"mask_ratio": [0.15, 1.0]}, "train": every},
        ],
    }
    (folder / "distil.yaml").write_text(yaml.safe_dump(distil))
    for name, task in (("captions", "caption"), ("answers", "vqa")):
        tune = {"method": "vlkd_finetune", "data": {"tasks": {task: 1.0}}, "train": {**TRAIN}}
        content = {"kind": "finetune", "source": "a test", "phases": [tune]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return dataclasses.replace(
        SCENES,
        distil=str(folder / "distil.yaml"),
        finetune={name: str(folder / f"{name}.yaml") for name in ("captions", "answers")},
        captions_test=("test", 4),
        questions_test=("test", 3),
        unseen=("test_compositional", 3),
    )
