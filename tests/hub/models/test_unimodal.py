"""The distilled image encoder and the classifier on any encoder: what they return, that they load again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, BeitConfig

from vlkd_hub.models import (
    UnimodalForImageClassification,
    UnimodalImageConfig,
    UnimodalImageModel,
    enable_remote_code,
    has_remote_code,
)

PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TIMM = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 16}
HF = BeitConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
)


def timm_config(**more: object) -> UnimodalImageConfig:
    options = {"backbone_name": "vit_tiny_patch16_224", "backbone_options": TIMM, "image_size": 32}
    return UnimodalImageConfig(**options, **more)


def hf_config(**more: object) -> UnimodalImageConfig:
    return UnimodalImageConfig(backbone_type="hf", backbone_config=HF.to_dict(), image_size=32, **more)


def timm_beit(**more: object) -> UnimodalImageConfig:
    """Its table of relative positions is a buffer that no file holds."""
    options = {name: value for name, value in TIMM.items() if name != "patch_size"}
    return UnimodalImageConfig(backbone_name="beitv2_base_patch16_224", backbone_options=options, image_size=32, **more)


def convolutional(**more: object) -> UnimodalImageConfig:
    return UnimodalImageConfig(backbone_name="tf_efficientnet_lite0", image_size=32, **more)


@pytest.mark.parametrize("make", [timm_config, hf_config])
def test_hidden_states_are_the_blocks_own(make: object) -> None:
    """1 + layers tensors; each block turns one into the next, and the closing norm is not among them."""
    torch.manual_seed(0)
    model = UnimodalImageModel(make()).eval()
    found = model(PIXELS, output_hidden_states=True)
    assert [tuple(layer.shape) for layer in found.hidden_states] == [(2, 5, 16)] * 3
    backbone = model.backbone
    blocks = next(m for m in backbone.modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m) == 2)
    for at, block in enumerate(blocks):
        out = block(found.hidden_states[at])
        torch.testing.assert_close(out[0] if isinstance(out, tuple) else out, found.hidden_states[at + 1])
    if make is timm_config:
        torch.testing.assert_close(backbone.norm(found.hidden_states[-1]), found.last_hidden_state)


def test_no_hook_stays_behind() -> None:
    model = UnimodalImageModel(timm_config()).eval()
    model(PIXELS, output_hidden_states=True)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.backbone.blocks)
    assert model(PIXELS).hidden_states is None


def test_a_convolutional_network_has_no_layers_to_tell() -> None:
    model = UnimodalImageModel(convolutional()).eval()
    with pytest.raises(ValueError, match="no Transformer blocks"):
        model(PIXELS, output_hidden_states=True)


@pytest.mark.parametrize(("make", "prefix"), [(timm_config, 1), (hf_config, 1), (convolutional, 0)])
def test_code_1(make: object, prefix: int) -> None:
    """Logits are Linear(LayerNorm(mean of the patches)), the class token left out."""
    torch.manual_seed(0)
    model = UnimodalForImageClassification(make(num_labels=3)).eval()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2.0)
        tokens = model.encoder(PIXELS).last_hidden_state
        mean = tokens[:, prefix:].mean(dim=1)
        normed = nn.functional.layer_norm(mean, mean.shape[-1:], model.norm.weight, model.norm.bias)
        expected = normed @ model.classifier.weight.t() + model.classifier.bias
        torch.testing.assert_close(model(PIXELS).logits, expected)
        cached = model.backbone_features(PIXELS)
        torch.testing.assert_close(model(backbone_features=cached).logits, expected)
    assert model.encoder.num_prefix_tokens == prefix


def test_one_kind_of_input() -> None:
    model = UnimodalForImageClassification(timm_config(num_labels=2))
    with pytest.raises(ValueError, match="exactly one"):
        model()
    with pytest.raises(ValueError, match="backbone_type"):
        UnimodalImageConfig(backbone_type="jax")
    with pytest.raises(ValueError, match="backbone_config"):
        UnimodalImageConfig(backbone_type="hf")


@pytest.mark.parametrize("make", [timm_config, timm_beit, hf_config])
def test_loads_again(make: object, tmp_path: Path) -> None:
    """By Auto classes, as a classifier and as the encoder under it."""
    torch.manual_seed(0)
    model = UnimodalForImageClassification(make(id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1})).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(PIXELS).logits, model(PIXELS).logits)
    assert again.config.id2label == {0: "cat", 1: "dog"}
    encoder = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(encoder(PIXELS).last_hidden_state, model.encoder(PIXELS).last_hidden_state)


@pytest.mark.slow
def test_carries_its_code(tmp_path: Path) -> None:
    """A process that cannot import this package loads the classifier with trust_remote_code."""
    model = UnimodalForImageClassification(timm_config(num_labels=2)).eval()
    assert has_remote_code(model.config) and not has_remote_code(HF)
    enable_remote_code(model.config)
    model.save_pretrained(tmp_path)
    torch.save(model(PIXELS).logits, tmp_path / "logits.pt")
    code = f"""
import sys
sys.modules["vlkd_hub"] = None
import torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained({str(tmp_path)!r}, trust_remote_code=True).eval()
pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
torch.testing.assert_close(model(pixels).logits, torch.load({str(tmp_path / "logits.pt")!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"HF_HOME": str(tmp_path / "home"), "PATH": ""})


def test_registered() -> None:
    assert isinstance(AutoConfig.for_model("vlkd_unimodal_image"), UnimodalImageConfig)
