"""An S-SMKE student, rows and every variant of its method, small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import BertConfig

from vlkd_hub.models.smke import SmkeConfig, SmkeImageConfig, SmkeModel
from vlkd_training.methods import SmkeMethod
from vlkd_training.trainer import DistillationTrainer

from .toy import make_trainer

__all__ = ["ROWS", "VARIANTS", "SmkeRows", "smke_student", "smke_trainer"]

ROWS, WIDTH, CLASSES, PATCHES = 8, 16, 10, 4
_LAYERS = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shre-mlp": ({"shared": "mlp"}, {"target": "classes"}),
    "shre-ranking": ({"shared": "mlp"}, {"target": "classes", "contrast": "ranking"}),
    "shre-transformer": ({}, {"target": "classes"}),
    "cls": ({}, {"target": "cls"}),
    "type-before": ({"token_type": "before"}, {"target": "cls"}),
    "type-scaled": ({"token_type": "scaled"}, {"target": "cls"}),
    "itm": ({"itm_size": 6}, {"target": "cls", "matching": "hard"}),
    "fifo": ({}, {"target": "cls", "bank": 6}),
    "momentum": ({"contrast_layers": [2]}, {"target": "cls", "bank": 6, "momentum": 0.5}),
    "proximal": ({}, {"target": "cls", "bank": 3, "proximal": 30.0, "examples": ROWS}),
    "target-cmli": ({"cmli_size": 5}, {"target": "patches"}),
    "contrastive-bank": ({}, {"target": "contrastive", "target_bank": 6}),
    "codes": ({}, {"target": "codes"}),
}
"""Fields of the model, options of the method."""


class SmkeRows(Dataset):
    """Random pictures, texts and teacher outputs; rows 0 and 1 show the same picture."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        draw = lambda *shape: torch.randn(ROWS, *shape, generator=generator)  # noqa: E731
        ids = torch.randint(5, 25, (ROWS, 6), generator=generator)
        self.entries = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": draw(3, 32, 32),
            "teacher_logits": draw(CLASSES),
            "teacher_cls": draw(CLASSES),
            "teacher_patches": draw(PATCHES, CLASSES),
            "teacher_codes": torch.randint(CLASSES, (ROWS,), generator=generator),
            "image_ids": torch.tensor([0, 0, *range(2, ROWS)]),
            "row": torch.arange(ROWS),
        }
        for entry in ("pixel_values", "teacher_logits", "teacher_cls", "teacher_patches", "teacher_codes"):
            self.entries[entry][1] = self.entries[entry][0]

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {name: values[row] for name, values in self.entries.items()}


def smke_student(dropout: float = 0.0, **fields: Any) -> SmkeModel:
    """A student of a ViT and a BERT of one layer each."""
    vit = {"model_type": "vit", **_LAYERS, "image_size": 32, "patch_size": 16}
    noise = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    values: dict[str, Any] = {
        "image_config": SmkeImageConfig(
            backbone_type="hf", backbone_name=None, backbone_config=vit | noise, hidden_size=WIDTH, image_size=32
        ),
        "text_config": BertConfig(vocab_size=25, **_LAYERS, **noise),
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "head_size": CLASSES,
        "embedding_dropout": dropout,
    }
    torch.manual_seed(0)
    return SmkeModel(SmkeConfig(**(values | fields)))


def smke_trainer(variant: str, output: Path, dropout: float = 0.0, **changes: Any) -> DistillationTrainer:
    """A trainer of one of :data:`VARIANTS`."""
    fields, options = VARIANTS[variant]
    model: nn.Module = smke_student(dropout, **fields)
    config = model.config
    widths = (config.intermediate_size, config.hidden_size, config.head_size)
    method = SmkeMethod(**options, layers=tuple(config.contrast_layers), widths=widths)
    values = {"per_device_train_batch_size": 4, "dataloader_drop_last": True} | changes
    return make_trainer(Path(), output, method=method, rows=SmkeRows(), model=model, **values)
