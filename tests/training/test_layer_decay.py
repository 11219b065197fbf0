"""Learning rates by layer: Table 5 of the thesis, on the optimizer that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import BeitConfig, BertConfig, BertForSequenceClassification

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import UnimodalForImageClassification, UnimodalImageConfig
from vlkd_training.layer_decay import layer_multipliers
from vlkd_training.methods import ClassifyMethod
from vlkd_training.trainer import DistillationArguments, DistillationTrainer

SMALL = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
TABLE_5 = [2.3e-4, 2.8e-4, 3.5e-4, 4.3e-4, 5.3e-4, 6.6e-4, 8.1e-4, 1e-3]


def timm_classifier() -> tuple[Any, str]:
    options = {"embed_dim": 16, "depth": 6, "num_heads": 2, "img_size": 32}
    config = UnimodalImageConfig(backbone_name="vit_tiny_patch16_224", backbone_options=options, image_size=32)
    return UnimodalForImageClassification(config), "encoder.backbone"


def hf_classifier() -> tuple[Any, str]:
    inner = BeitConfig(**SMALL, image_size=32, patch_size=16, use_relative_position_bias=True).to_dict()
    config = UnimodalImageConfig(backbone_type="hf", backbone_config=inner, image_size=32)
    return UnimodalForImageClassification(config), "encoder.backbone"


def text_classifier() -> tuple[Any, str]:
    return BertForSequenceClassification(BertConfig(**SMALL, vocab_size=30)), "bert"


MAKERS = {
    "timm": (timm_classifier, ("cls_token", "pos_embed", "patch_embed"), "blocks"),
    "hf": (hf_classifier, ("embeddings",), "layers"),
    "text": (text_classifier, ("embeddings",), "encoder.layer"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_table_5(name: str, tmp_path: Path) -> None:
    """Base 1e-3, decay 0.81, six layers: the eight rates of Table 5, each on the parameters of its layer."""
    make, before, stack = MAKERS[name]
    model, encoder = make()
    arguments = DistillationArguments(
        output_dir=str(tmp_path),
        learning_rate=1e-3,
        lr_multipliers=layer_multipliers(model, encoder, 0.81),
        use_cpu=True,
        report_to=[],
    )
    trainer = DistillationTrainer(method=ClassifyMethod(), args=arguments, model=model)
    rates = {id(p): group["lr"] for group in trainer.create_optimizer().param_groups for p in group["params"]}
    of_layer: dict[int, set[float]] = {number: set() for number in range(8)}
    for parameter, value in model.named_parameters():
        inner = parameter.removeprefix(f"{encoder}.")
        layer = 7
        if inner.startswith(before):
            layer = 0
        elif inner.startswith(f"{stack}."):
            layer = 1 + int(inner.removeprefix(f"{stack}.").split(".")[0])
        of_layer[layer].add(rates[id(value)])
    for number, expected in enumerate(TABLE_5):
        assert len(of_layer[number]) == 1, (number, of_layer[number])
        rate = of_layer[number].pop()
        assert rate == pytest.approx(1e-3 * 0.81 ** (7 - number), rel=1e-9)
        assert rate == pytest.approx(expected, rel=0.02)


def test_a_convolutional_network_has_no_layers() -> None:
    model = UnimodalForImageClassification(UnimodalImageConfig(backbone_name="test_efficientnet", image_size=32))
    with pytest.raises(RecipeError, match="layer_decay needs Transformer layers"):
        layer_multipliers(model, "encoder.backbone", 0.81)
