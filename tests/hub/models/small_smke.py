"""An S-SMKE student with random weights, small enough for a test."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig

from vlkd_hub.models.smke import SmkeConfig, SmkeImageConfig, SmkeModel

__all__ = ["BEIT", "IDS", "MASK", "PIXELS", "VIT", "WIDTH", "image_config", "make_config", "make_smke"]

VOCAB, WIDTH = 40, 16
_LAYERS = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {"model_type": "vit", **_LAYERS, "image_size": 32, "patch_size": 16}
BEIT = {"model_type": "beit", **_LAYERS, "image_size": 32, "patch_size": 16}
PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([[2, 7, 8, 9, 4, 3], [2, 11, 4, 3, 0, 0], [2, 9, 8, 30, 3, 0]])
MASK = (IDS != 0).long()


def image_config(backbone: str = "vit", **changes: Any) -> SmkeImageConfig:
    """``vit`` and ``beit`` are Hugging Face's, ``timm-vit`` and ``cnn`` timm's."""
    kinds: dict[str, dict[str, Any]] = {
        "vit": {"backbone_type": "hf", "backbone_name": None, "backbone_config": VIT},
        "beit": {"backbone_type": "hf", "backbone_name": None, "backbone_config": BEIT},
        "timm-vit": {"backbone_name": "test_vit", "backbone_options": {"img_size": 32}},
        "cnn": {"backbone_name": "test_efficientnet", "grid_size": 2},
    }
    return SmkeImageConfig(**(kinds[backbone] | {"hidden_size": WIDTH, "image_size": 32} | changes))


def make_config(backbone: str = "vit", **changes: Any) -> SmkeConfig:
    text = BertConfig(vocab_size=VOCAB, **_LAYERS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    values = {
        "image_config": image_config(backbone),
        "text_config": text,
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "head_size": 10,
    }
    return SmkeConfig(**(values | changes))


def make_smke(backbone: str = "vit", **changes: Any) -> SmkeModel:
    torch.manual_seed(0)
    model = SmkeModel(make_config(backbone, **changes)).eval()
    with torch.no_grad():  # at 0.02 every output would be next to zero and any two answers alike
        for name, parameter in model.named_parameters():
            if parameter.dim() and "logit_scale" not in name and "type_scale" not in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model
