"""A student cut from its teacher: which layers, what is copied, that it loads again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    BeitConfig,
    BeitModel,
    BertConfig,
    BertModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
    DeiTConfig,
    DeiTModel,
    ViTConfig,
    ViTModel,
)

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import UnimodalImageConfig, UnimodalImageModel
from vlkd_training.layer_choice import choose_layers, cut_layers

SMALL = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
PICTURE = {"image_size": 32, "patch_size": 16}
TIMM = {"embed_dim": 16, "depth": 4, "num_heads": 2, "img_size": 32}
PIXELS = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
WORDS = {"input_ids": torch.tensor([[2, 5, 6, 7], [2, 8, 9, 3]])}


def timm(name: str) -> UnimodalImageModel:
    return UnimodalImageModel(UnimodalImageConfig(backbone_name=name, backbone_options=TIMM, image_size=32))


TEACHERS: dict[str, Any] = {
    "bert": (lambda: BertModel(BertConfig(**SMALL, vocab_size=30), add_pooling_layer=False), WORDS),
    "vit": (lambda: ViTModel(ViTConfig(**SMALL, **PICTURE), add_pooling_layer=False), PIXELS),
    "beit": (
        lambda: BeitModel(BeitConfig(**SMALL, **PICTURE, use_relative_position_bias=True), add_pooling_layer=False),
        PIXELS,
    ),
    "deit": (lambda: DeiTModel(DeiTConfig(**SMALL, **PICTURE), add_pooling_layer=False), PIXELS),
    "data2vec-vision": (
        lambda: Data2VecVisionModel(
            Data2VecVisionConfig(**SMALL, **PICTURE, use_relative_position_bias=True), add_pooling_layer=False
        ),
        PIXELS,
    ),
    "timm-vit": (lambda: timm("vit_tiny_patch16_224"), PIXELS),
    "timm-beit": (lambda: timm("beitv2_base_patch16_224"), PIXELS),
}


@pytest.mark.parametrize(
    ("choice", "count", "expected"),
    [
        ("first_half", 12, [0, 1, 2, 3, 4, 5]),
        ("every_second", 12, [0, 2, 4, 6, 8, 10]),
        ("first_half", 5, [0, 1]),
        ("every_second", 5, [0, 2]),
        ([1, 4], 4, [0, 3]),
    ],
)
def test_which_layers(choice: Any, count: int, expected: list[int]) -> None:
    """Both named choices keep half of the layers."""
    assert choose_layers(choice, count) == expected


@pytest.mark.parametrize("choice", ["last_half", [], [0, 1], [2, 1], [1, 1], [5]])
def test_wrong_choices(choice: Any) -> None:
    with pytest.raises(RecipeError, match="layers"):
        choose_layers(choice, 4)


@pytest.mark.parametrize("name", TEACHERS)
def test_cut(name: str, tmp_path: Path) -> None:
    """The first half says what the teacher's first layers say, to the bit; other layers are where they belong; a
    saved student loads by AutoModel with as many layers and the same output."""
    torch.manual_seed(0)
    make, inputs = TEACHERS[name]
    teacher = make().eval()
    target = teacher(**inputs, output_hidden_states=True).hidden_states
    student = cut_layers(teacher, "first_half").eval()
    found = student(**inputs, output_hidden_states=True).hidden_states
    assert len(found) == 3 and all(torch.equal(ours, its) for ours, its in zip(found, target[:3], strict=True))
    other = cut_layers(teacher, [1, 4]).eval()
    of_other, of_teacher = other.state_dict(), teacher.state_dict()
    moved = [key for key in of_other if ".1." in key]
    assert moved and all(torch.equal(of_other[key], of_teacher[key.replace(".1.", ".3.")]) for key in moved)
    other.save_pretrained(tmp_path)
    options = {} if name.startswith("timm") else {"add_pooling_layer": False}
    again = AutoModel.from_pretrained(tmp_path, **options).eval()
    layers = again(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(layers[-1], other(**inputs, output_hidden_states=True).hidden_states[-1])
    assert len(layers) == 3


def test_the_teacher_is_not_changed() -> None:
    teacher = TEACHERS["bert"][0]()
    student = cut_layers(teacher, "first_half")
    assert teacher.config.num_hidden_layers == 4 and len(teacher.encoder.layer) == 4
    with torch.no_grad():
        nn.init.zeros_(student.embeddings.word_embeddings.weight)
    assert teacher.embeddings.word_embeddings.weight.abs().sum() > 0


def test_a_convolutional_network_cannot_be_cut() -> None:
    model = UnimodalImageModel(UnimodalImageConfig(backbone_name="test_efficientnet", image_size=32))
    with pytest.raises(RecipeError, match="no list of Transformer layers"):
        cut_layers(model, "first_half")


def test_paper_size() -> None:
    """Section 3.1.1.1: 43.1M parameters of 85.9M; BERT's half has 66.4M (Table 9)."""
    with torch.device("meta"):
        sizes = {
            "data2vec": Data2VecVisionModel(
                Data2VecVisionConfig(num_hidden_layers=6, use_relative_position_bias=True), add_pooling_layer=False
            ).num_parameters(),
            "teacher": Data2VecVisionModel(
                Data2VecVisionConfig(use_relative_position_bias=True), add_pooling_layer=False
            ).num_parameters(),
            "bert": BertModel(BertConfig(num_hidden_layers=6), add_pooling_layer=False).num_parameters(),
        }
    assert sizes == {
        "data2vec": pytest.approx(43.1e6, rel=0.01),
        "teacher": pytest.approx(85.9e6, rel=0.01),
        "bert": pytest.approx(66.4e6, rel=0.01),
    }
