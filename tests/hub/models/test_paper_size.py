"""The paper's own size: BART-large and CLIP ViT-B/16, from configs, with random weights."""

from __future__ import annotations

import pytest
import torch
from transformers import BartConfig, BertConfig

from vlkd_hub.models.smke import SmkeConfig, SmkeImageConfig, SmkeModel
from vlkd_hub.models.vlkd import VisionTowerConfig, VlkdConfig, VlkdForConditionalGeneration

VOCAB = 50265


def make_config() -> VlkdConfig:
    """BART-large's and ViT-B/16's published sizes; the shared space of ViT-B/16 has 512 dimensions."""
    bart = {
        "vocab_size": VOCAB,
        "d_model": 1024,
        "encoder_layers": 12,
        "decoder_layers": 12,
        "encoder_attention_heads": 16,
        "decoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
        "max_position_embeddings": 1024,
    }
    vit = {
        "model_type": "clip_vision_model",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    }
    vision = VisionTowerConfig(backbone_type="hf", backbone_config=vit, pool="cls", image_size=224, projection_dim=512)
    return VlkdConfig(
        vision_config=vision, text_encoder=BartConfig(**bart), decoder=BartConfig(**bart), projection_dim=512
    )


def millions(*parts: torch.nn.Module) -> float:
    """Parameters of the parts, tensors they share counted once."""
    return sum({id(value): value.numel() for part in parts for value in part.parameters()}.values()) / 1e6


def test_sizes_are_the_papers() -> None:
    """406M of BART-large and 86M of ViT-B/16; an untied table would add 51M, a missing layer take 13M."""
    with torch.device("meta"):
        model = VlkdForConditionalGeneration(make_config())
    model.tie_weights()
    assert millions(model.vlkd.text_encoder, model.decoder, model.lm_head) == pytest.approx(406, rel=0.01)
    assert millions(model.vlkd.vision_tower.backbone) == pytest.approx(86, rel=0.01)
    added = millions(model.vlkd.text_projection, model.image_to_decoder, model.text_to_decoder)
    assert added == pytest.approx(3 * 512 * 1024 / 1e6)


@pytest.mark.slow
def test_one_step_and_one_caption(seeded: None) -> None:
    """At full size in fp32: gradients are finite, the step moves BART and W_i, never CLIP; then three tokens."""
    model = VlkdForConditionalGeneration(make_config()).train()
    trained = [value for value in model.parameters() if value.requires_grad]
    watched = {
        "bart": model.decoder.layers[11].fc2.weight,
        "w_i": model.image_to_decoder.weight,
        "clip": next(model.vlkd.vision_tower.parameters()),
    }
    before = {name: value.detach().clone() for name, value in watched.items()}
    pixels, ids = torch.randn(1, 3, 224, 224), torch.tensor([[0, 250, 2170, 9, 50264, 2]])
    labels = torch.tensor([[0, 250, 2170, 2]])
    loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, labels=labels).loss
    loss.backward()
    assert torch.isfinite(loss) and loss > 1.0
    assert all(torch.isfinite(value.grad).all() for value in trained if value.grad is not None)
    torch.optim.SGD(trained, lr=0.1).step()
    moved = {name: not torch.equal(before[name], value) for name, value in watched.items()}
    assert moved == {"bart": True, "w_i": True, "clip": False}
    model.eval()
    written = model.generate(ids, pixel_values=pixels, max_new_tokens=3, min_new_tokens=3)
    assert written.shape == (1, 4)
    assert ((written >= 0) & (written < VOCAB)).all()


def thesis(**changes: object) -> SmkeConfig:
    """6 + 6 + 1 layers, 768 wide: the first halves of Data2Vec2's image model (a BEiT-like ViT-B/16) and of BERT."""
    layers = {"hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072}
    vit = {"model_type": "vit", **layers, "image_size": 224, "patch_size": 16}
    image = SmkeImageConfig(backbone_type="hf", backbone_name=None, backbone_config=vit, hidden_size=768)
    values = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "head_size": 1000}
    return SmkeConfig(image_config=image, text_config=BertConfig(**layers), **(values | changes))


def test_the_sizes_of_s_smke_are_the_thesis() -> None:
    """66.4M text, 5.5M MLP, 43.1M pictures (section 3.1.1; Table 9 prints 42.3M, which is 6 layers without patches,
    positions and class token: 42.5M), ITM 1.1M."""
    with torch.device("meta"):
        mlp = SmkeModel(thesis(shared="mlp", itm_size=144))
        block = SmkeModel(thesis())
    assert millions(mlp.text_encoder) == pytest.approx(66.4, rel=0.01)
    assert millions(mlp.shared_encoder) == pytest.approx(5.5, rel=0.01)
    assert millions(mlp.image_encoder) == pytest.approx(43.1, rel=0.01)
    assert millions(mlp.matching) == pytest.approx(1.1, rel=0.01)
    added = millions(block.shared_encoder) - millions(mlp.shared_encoder)
    assert added == pytest.approx(4 * 768 * 769 / 1e6, rel=0.01)  # one self-attention more (section 3.2.1.3)
