"""The VLKD student against section 3 of 002_330011b7ef9ac362.txt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BartConfig, BertConfig

from vlkd_hub.models.vlkd import VisionTowerConfig, VlkdConfig, VlkdForConditionalGeneration, VlkdModel

VOCAB, WIDTH, DIM = 40, 16, 8
DECODER = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def vision(backbone: str = "clip") -> VisionTowerConfig:
    if backbone == "clip":
        kind = {"backbone_type": "hf", "backbone_name": None, "backbone_config": CLIP, "pool": "cls"}
    else:
        kind = {"backbone_name": "test_efficientnet", "feature_layers": [3], "grid_size": 2}
    return VisionTowerConfig(**kind, image_size=32, projection_dim=DIM)


def make_config(backbone: str = "clip", encoder: str = "bert", **changes) -> VlkdConfig:
    bert = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = BertConfig(vocab_size=VOCAB, **bert) if encoder == "bert" else BartConfig(**DECODER)
    values = {
        "vision_config": vision(backbone),
        "text_encoder": text,
        "decoder": BartConfig(**DECODER),
        "projection_dim": DIM,
        "image_features": "all_tokens",
        "visual_scale": 2.5,
    }
    return VlkdConfig(**(values | changes))


def make_model(*args, **changes) -> VlkdForConditionalGeneration:
    torch.manual_seed(0)
    model = VlkdForConditionalGeneration(make_config(*args, **changes)).eval()
    with torch.no_grad():  # tiny random weights write one token for ever; larger ones make decoding worth comparing
        for parameter in [*model.decoder.parameters(), model.image_to_decoder.weight, model.text_to_decoder.weight]:
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([[2, 7, 8, 9, 4, 3], [2, 11, 4, 3, 0, 0]])
MASK = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
LABELS = torch.tensor([[7, 8, 9, 3], [11, 3, -100, -100]])


@pytest.fixture(params=[("clip", "bert"), ("timm", "bert"), ("clip", "bart")], ids="-".join)
def model(request) -> VlkdForConditionalGeneration:
    return make_model(*request.param)


@torch.no_grad()
def test_context_is_equation_1(model) -> None:
    """C = concat(W_i (scale V), W'_e W_e E), each factor recomputed from its own matrix."""
    context = model.encode_context(IDS, MASK, PIXELS).last_hidden_state
    tower = model.vlkd.vision_tower(pixel_values=PIXELS)
    v = torch.cat([tower.image_embeds[:, None], tower.token_embeds], dim=1).numpy()
    v = v / np.linalg.norm(v, axis=-1, keepdims=True)
    e = model.vlkd.text_encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state.numpy()
    w_i, w_e = model.image_to_decoder.weight.numpy(), model.vlkd.text_projection.weight.numpy()
    w_back = model.text_to_decoder.weight.numpy()
    expected = np.concatenate([2.5 * v @ w_i.T, e @ w_e.T @ w_back.T], axis=1)
    np.testing.assert_allclose(context.numpy(), expected, atol=2e-5)


@torch.no_grad()
def test_text_embedding_is_the_mean_through_w_e(model) -> None:
    """Section 3.2.1: the mean of all encoder outputs, padding left out, projected, L2-normalised."""
    e = model.vlkd.text_encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    means = torch.stack([e[0].mean(dim=0), e[1, :4].mean(dim=0)]) @ model.vlkd.text_projection.weight.t()
    expected = means / means.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(model.vlkd.get_text_features(IDS, MASK).pooler_output, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.encode_text(IDS, MASK)[0], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_cls_or_all_tokens() -> None:
    """The ViT variant gives the decoder v_cls alone, the other every location too; the picture's vector is one."""
    both = {kind: make_model(image_features=kind) for kind in ("cls", "all_tokens")}
    tokens = {kind: found.vlkd.image_tokens(PIXELS) for kind, found in both.items()}
    assert tokens["cls"].shape == (2, 1, DIM)
    assert tokens["all_tokens"].shape == (2, 1 + 4, DIM)
    torch.testing.assert_close(tokens["cls"][:, 0], tokens["all_tokens"][:, 0])
    torch.testing.assert_close(tokens["all_tokens"].norm(dim=-1), torch.ones(2, 5))


@torch.no_grad()
def test_clip_tower_is_transformers_clip() -> None:
    """v_cls must be what the teacher's own class computes, projection included."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    tower = make_model().vlkd.vision_tower
    sub = CLIPVisionConfig(**{k: v for k, v in CLIP.items() if k != "model_type"}, projection_dim=DIM)
    clip = CLIPVisionModelWithProjection(sub).eval()
    weights = tower.backbone.state_dict().items()
    renamed = {f"vision_model.{name.removeprefix('vision_model.')}": value for name, value in weights}
    renamed["visual_projection.weight"] = tower.projection.weight
    missing = clip.load_state_dict(renamed, strict=False)
    assert not missing.missing_keys
    torch.testing.assert_close(tower(pixel_values=PIXELS).image_embeds, clip(pixel_values=PIXELS).image_embeds)


@torch.no_grad()
def test_scores(model) -> None:
    output = model.vlkd(input_ids=IDS, attention_mask=MASK, pixel_values=PIXELS, token_type_ids=None)
    expected = output.image_embeds @ output.text_embeds.t() / 0.07
    torch.testing.assert_close(output.logits_per_image, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(output.logits_per_text, output.logits_per_image.t())
    # Exporters and pipelines read the items, and a field that is set after the making is not among them.
    assert set(output) == {
        "last_hidden_state",
        "pooler_output",
        "logits_per_image",
        "logits_per_text",
        "image_embeds",
        "text_embeds",
    }
    assert model.vlkd(pixel_values=PIXELS).text_embeds is None
    assert model.vlkd(input_ids=IDS, attention_mask=MASK).image_embeds is None
    with pytest.raises(ValueError, match="needs pixel_values, input_ids, or both"):
        model.vlkd()


@torch.no_grad()
def test_text_only(model) -> None:
    """Without a picture the context is the text's part, and everything still runs."""
    context = model.encode_context(IDS, MASK)
    assert context.image_embeds is None
    full = model.encode_context(IDS, MASK, PIXELS).last_hidden_state
    torch.testing.assert_close(context.last_hidden_state, full[:, -6:])
    assert torch.isfinite(model(input_ids=IDS, attention_mask=MASK, labels=LABELS).loss)
    assert model.generate(IDS, attention_mask=MASK, max_new_tokens=3).shape[0] == 2


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 1}, {"num_beams": 3}, {"do_sample": True, "top_k": 5}],
    ids=["greedy", "beam", "sampling"],
)
@torch.no_grad()
def test_generate(model, options) -> None:
    torch.manual_seed(0)
    ids = model.generate(IDS, attention_mask=MASK, pixel_values=PIXELS, max_new_tokens=6, **options)
    assert ids.shape[0] == 2
    assert ids[:, 0].eq(2).all()
    assert 2 <= ids.shape[1] <= 7
    assert ((ids >= 0) & (ids < VOCAB)).all()


@torch.no_grad()
def test_the_picture_matters_to_generation(model) -> None:
    scores = [
        model(input_ids=IDS, attention_mask=MASK, pixel_values=pixels, labels=LABELS).logits
        for pixels in (PIXELS, PIXELS.flip(0))
    ]
    assert not torch.allclose(scores[0], scores[1], atol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_padded_batch_equals_single(model, beams) -> None:
    """Padding must be invisible, in the encoder and in cross-attention."""
    options = {"max_new_tokens": 6, "num_beams": beams, "min_new_tokens": 6}
    together = model.generate(IDS, attention_mask=MASK, pixel_values=PIXELS, **options)
    alone = model.generate(IDS[1:, :4], attention_mask=MASK[1:, :4], pixel_values=PIXELS[1:], **options)
    assert torch.equal(together[1], alone[0])
    padded = model(input_ids=IDS, attention_mask=MASK, pixel_values=PIXELS, labels=LABELS).logits[1]
    single = model(
        input_ids=IDS[1:, :4], attention_mask=MASK[1:, :4], pixel_values=PIXELS[1:], labels=LABELS[1:]
    ).logits[0]
    torch.testing.assert_close(padded, single, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_cached_decoding_equals_uncached(model, beams) -> None:
    options = {"max_new_tokens": 8, "num_beams": beams, "min_new_tokens": 8}
    found = [
        model.generate(IDS, attention_mask=MASK, pixel_values=PIXELS, use_cache=use_cache, **options)
        for use_cache in (True, False)
    ]
    assert torch.equal(found[0], found[1])


@torch.no_grad()
def test_cached_picture_tokens_equal_pixels(model) -> None:
    """What a trainer caches is what the student would have computed."""
    inputs = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
    tokens = model.vlkd.image_tokens(PIXELS)
    assert torch.equal(model(**inputs, image_tokens=tokens).logits, model(**inputs, pixel_values=PIXELS).logits)


@torch.no_grad()
def test_labelled_logits_only(model) -> None:
    """The output layer is most of the work; a method that computes its own loss needs neither padding nor another."""
    inputs = {"input_ids": IDS, "attention_mask": MASK, "pixel_values": PIXELS, "labels": LABELS}
    full, few = model(**inputs), model(**inputs, labelled_logits_only=True)
    torch.testing.assert_close(few.logits, full.logits[LABELS != -100])
    assert full.loss is not None
    assert few.loss is None


@torch.no_grad()
def test_loss_ignores_minus_100(model) -> None:
    inputs = {"input_ids": IDS, "attention_mask": MASK, "pixel_values": PIXELS}
    output = model(**inputs, labels=LABELS)
    log_p = output.logits.log_softmax(dim=-1)
    wanted = [(0, 0, 7), (0, 1, 8), (0, 2, 9), (0, 3, 3), (1, 0, 11), (1, 1, 3)]
    expected = -sum(log_p[index].item() for index in wanted) / len(wanted)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_clean_text_is_what_is_embedded(model) -> None:
    """TTDM and ITCL compare the whole text, ICTI reads the corrupted one: one pass serves both."""
    clean, mask = IDS.flip(0), MASK.flip(0)
    output = model(input_ids=IDS, attention_mask=MASK, labels=LABELS, clean_input_ids=clean, clean_attention_mask=mask)
    assert torch.equal(output.text_embeds, model.vlkd.project_text(clean, mask)[0])


def test_refuses_inputs_that_do_not_belong_together() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="2 pictures came with 1 texts"):
        model.encode_context(IDS[:1], MASK[:1], PIXELS)
    with pytest.raises(ValueError, match="pixel_values or cached image_tokens, not both"):
        model.encode_context(IDS, MASK, PIXELS, torch.zeros(2, 5, DIM))
    with pytest.raises(ValueError, match="Give input_ids"):
        model(pixel_values=PIXELS, labels=LABELS)
    with pytest.raises(ValueError, match="Give labels or decoder_input_ids"):
        model(input_ids=IDS, pixel_values=PIXELS)
    with pytest.raises(ValueError, match="needs a prompt in input_ids"):
        model.generate(pixel_values=PIXELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_features": "patches"}, "image_features must be 'cls' or 'all_tokens', got 'patches'"),
        ({"projection_dim": 9}, "projects to 8 dimensions and projection_dim is 9"),
        ({"decoder": BartConfig(**DECODER | {"d_model": 32})}, "text encoder is 16 wide and the decoder 32"),
        ({"decoder": BartConfig(**DECODER | {"vocab_size": 41})}, "has 40 words and the decoder 41"),
    ],
)
def test_config_refuses(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


def test_config_takes_generation_ids_from_the_decoder() -> None:
    config = make_config()
    found = (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id)
    assert found == (0, 2, 3, 2)


@pytest.mark.parametrize("encoder", ["bert", "bart"])
@torch.no_grad()
def test_saved_and_loaded(tmp_path: Path, encoder: str) -> None:
    """Either head loads the one checkpoint; nothing is left at random, tied tables are one tensor, no pickle."""
    model = make_model(encoder=encoder)
    model.save_pretrained(tmp_path)
    suffixes = {file.suffix for file in tmp_path.rglob("*")}
    assert ".safetensors" in suffixes and not suffixes & {".bin", ".pt", ".pth", ".pkl"}
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pt"))
    loaded, report = VlkdForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    inputs = {"input_ids": IDS, "attention_mask": MASK, "pixel_values": PIXELS, "labels": LABELS}
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    table = loaded.vlkd.text_encoder.get_input_embeddings().weight
    assert loaded.lm_head.weight is table
    assert loaded.decoder.embed_tokens.weight is table
    dual, report = VlkdModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    inputs.pop("labels")
    assert torch.equal(dual(**inputs).logits_per_image, model.vlkd(**inputs).logits_per_image)


def test_untied_tables_stay_apart(tmp_path: Path) -> None:
    """Encoder and decoder may have their own vocabularies; the output layer stays tied to the decoder's."""
    decoder = BartConfig(**DECODER | {"vocab_size": 50})
    model = make_model(decoder=decoder, tie_text_embeddings=False)
    model.save_pretrained(tmp_path)
    loaded = VlkdForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.decoder.embed_tokens.weight
    assert loaded.lm_head.weight.shape == (50, WIDTH)
    assert loaded.vlkd.text_encoder.get_input_embeddings().weight.shape == (VOCAB, WIDTH)


def test_image_tower_is_frozen_and_stays_in_eval_mode() -> None:
    """Section 3.2: no gradient into CLIP; batch statistics must not move either."""
    model = make_model("timm").train()
    assert not model.vlkd.vision_tower.training
    assert model.vlkd.text_encoder.training
    before = {name: value.clone() for name, value in model.vlkd.vision_tower.state_dict().items()}
    model(input_ids=IDS, attention_mask=MASK, pixel_values=PIXELS, labels=LABELS).loss.backward()
    assert all(parameter.grad is None for parameter in model.vlkd.vision_tower.parameters())
    assert model.image_to_decoder.weight.grad.abs().sum() > 0
    after = model.vlkd.vision_tower.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
