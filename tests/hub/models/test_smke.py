"""Transformer SHRe and S-SMKE against section 3.2 of 004_3cb4412af0da3ec5.txt."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForZeroShotImageClassification

from vlkd_hub.models import enable_remote_code
from vlkd_hub.models.smke import SmkeImageEncoder, sample_negatives

from .small_smke import IDS, MASK, PIXELS, WIDTH, image_config, make_config, make_smke

CLS, TEXTS = 0, {"input_ids": IDS, "attention_mask": MASK}


@torch.no_grad()
def test_the_mlp_is_equations_43_and_44() -> None:
    """Three linear layers on the class token, each result taken raw."""
    model = make_smke(shared="mlp")
    out = model(**TEXTS, pixel_values=PIXELS)
    part = model.shared_encoder
    h = model.text_encoder(**TEXTS).last_hidden_state[:, CLS]
    h1 = h @ part.fc1.weight.T + part.fc1.bias
    h2 = F.layer_norm(F.gelu(h1), (24,), part.norm1.weight, part.norm1.bias) @ part.fc2.weight.T + part.fc2.bias
    h3 = F.layer_norm(h2, (WIDTH,), part.norm2.weight, part.norm2.bias) @ part.head.weight.T + part.head.bias
    for found, expected in ((out.text_layer1, h1), (out.text_layer2, h2), (out.text_layer3, h3)):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(out.text_embeds, F.normalize(h3, dim=-1))  # the MLP searches with h'''


@torch.no_grad()
def test_the_block_is_equations_50_to_52() -> None:
    """Written out token by token and head by head, with padding left out of the attention."""
    model = make_smke(shared="transformer")
    out = model(**TEXTS, pixel_values=PIXELS)
    part = model.shared_encoder
    for row, length in enumerate(MASK.sum(dim=1).tolist()):
        h = model.text_encoder(IDS[row : row + 1], MASK[row : row + 1]).last_hidden_state[0, :length]
        x = F.layer_norm(h, (WIDTH,), part.norm_attention.weight, part.norm_attention.bias)
        query, (key, value) = part.query(x), part.key_value(x).chunk(2, dim=-1)
        heads = [slice(0, 8), slice(8, 16)]
        mixed = [((query[:, at] @ key[:, at].T / 8**0.5).softmax(dim=-1) @ value[:, at]) for at in heads]
        mha = part.out(torch.cat(mixed, dim=-1)) + h
        h1 = part.fc1(part.norm_mlp(mha))
        h2 = part.fc2(part.norm1(F.gelu(h1)))
        h3 = part.head(part.norm2(h2 + mha))
        torch.testing.assert_close(out.text_layer1[row], h1[CLS])
        torch.testing.assert_close(out.text_layer2[row], h2[CLS])
        torch.testing.assert_close(out.text_layer3[row], h3[CLS])
        torch.testing.assert_close(out.text_embeds[row], F.normalize(h2[CLS], dim=-1))  # the block searches with h''


@pytest.mark.parametrize("shared", ["mlp", "transformer"])
@torch.no_grad()
def test_the_class_token_alone_is_the_class_token_of_all(shared: str) -> None:
    """Computing one query in the place of all is a short cut, not another model."""
    wide = {"image_config": image_config(hidden_size=2 * WIDTH), "hidden_size": 2 * WIDTH}  # the texts are mapped to it
    for changes in ({}, {"text_summary": "mean"}, {"text_summary": "mean", **wide}):
        model = make_smke(shared=shared, **changes)
        for encode, given in ((model.encode_image, {"pixel_values": PIXELS}), (model.encode_text, TEXTS)):
            few, all_tokens = encode(**given), encode(**given, tokens=True)
            for name in ("layer1", "layer2", "layer3"):
                torch.testing.assert_close(getattr(few, name), getattr(all_tokens, name))
            torch.testing.assert_close(all_tokens.tokens2[:, CLS], few.layer2)


@pytest.mark.parametrize("backbone", ["vit", "beit", "timm-vit", "cnn"])
@torch.no_grad()
def test_every_backbone_gives_a_class_token_and_patches(backbone: str) -> None:
    """Cached features give what pixels give; a convolutional network's class token is the mean of its patches."""
    model = SmkeImageEncoder(image_config(backbone)).eval()
    tokens = model(PIXELS)
    assert tokens.shape[0] == 3 and tokens.shape[2] == WIDTH
    torch.testing.assert_close(model(backbone_features=model.backbone_features(PIXELS)), tokens)
    if backbone == "cnn":
        torch.testing.assert_close(tokens[:, CLS], tokens[:, 1:].mean(dim=1))
    elif backbone == "timm-vit":
        torch.testing.assert_close(tokens, model.embed(model.backbone.forward_features(PIXELS)))
    with pytest.raises(ValueError, match="exactly one"):
        model()


@pytest.mark.parametrize("backbone", ["vit", "beit", "timm-vit", "cnn"])
@torch.no_grad()
def test_a_type_embedding_before_enters_the_transformers_input(backbone: str) -> None:
    """Equations (58) and (59): a zero vector changes nothing, another does, and a copy of the model has its own."""
    model = make_smke(backbone, token_type="before")
    plain = make_smke(backbone)
    own = {
        n: v for n, v in model.state_dict().items() if n not in ("text_type.weight", "image_encoder.token_type.weight")
    }
    assert set(own) == set(plain.state_dict())  # a hook: no weight of a pretrained encoder changes its name
    plain.load_state_dict(own)
    for embedding in (model.image_encoder.token_type, model.text_type):
        embedding.weight.zero_()
    texts, images = plain.get_text_features(**TEXTS).pooler_output, plain.get_image_features(PIXELS).pooler_output
    torch.testing.assert_close(model.get_text_features(**TEXTS).pooler_output, texts)
    torch.testing.assert_close(model.get_image_features(PIXELS).pooler_output, images)
    twin = copy.deepcopy(model)
    for embedding in (twin.image_encoder.token_type, twin.text_type):
        embedding.weight.copy_(torch.linspace(-2, 2, len(embedding.weight)))
    torch.testing.assert_close(model.get_text_features(**TEXTS).pooler_output, texts)
    assert (twin.get_text_features(**TEXTS).pooler_output - texts).abs().max() > 0.01
    assert (twin.get_image_features(PIXELS).pooler_output - images).abs().max() > 0.01
    if backbone == "vit":
        with pytest.raises(ValueError, match="cached output would never see it"):
            model(**TEXTS, image_backbone_features=model.image_encoder.backbone_features(PIXELS))


@torch.no_grad()
def test_a_type_embedding_before_is_added_once_positions_are_in() -> None:
    """BERT's first layer must read ``embeddings + t``, not anything else that a hook could reach."""
    model = make_smke(token_type="before")
    seen = {}
    model.text_encoder.encoder.layer[0].register_forward_pre_hook(lambda module, inputs: seen.update(h=inputs[0]))
    hooked = model.text_encoder(**TEXTS).last_hidden_state
    inside = model.text_encoder.embeddings
    hooks, inside._forward_hooks = inside._forward_hooks, type(inside._forward_hooks)()
    bare = inside(IDS)
    inside._forward_hooks = hooks
    torch.testing.assert_close(seen["h"], bare + model.text_type.weight)
    assert hooked.shape == (3, 6, WIDTH)


@torch.no_grad()
def test_a_type_embedding_after_and_its_layer_scale() -> None:
    """Equations (61) and (62): H + t_scale * t_type, one scale for both modalities, 1e-5 at the start."""
    model = make_smke(token_type="scaled")
    assert torch.equal(model.type_scale, torch.full((WIDTH,), 1e-5))
    model.type_scale.copy_(torch.linspace(0.5, 1.5, WIDTH))
    hidden = model.text_encoder(**TEXTS).last_hidden_state
    scaled = model.shared_encoder(hidden + model.type_scale * model.text_type.weight, MASK)
    torch.testing.assert_close(model.encode_text(**TEXTS).layer2, scaled.layer2)
    picture = model.image_encoder(PIXELS) + model.type_scale * model.image_type.weight
    torch.testing.assert_close(model.encode_image(PIXELS).layer2, model.shared_encoder(picture).layer2)
    assert "type_scale" not in make_smke(token_type="after").state_dict()


@torch.no_grad()
def test_mean_summaries_leave_padding_out() -> None:
    """An encoder trained with mean pooling gives its mean in the class token's place."""
    model = make_smke(text_summary="mean", image_summary="mean", shared="mlp")
    hidden = model.text_encoder(**TEXTS).last_hidden_state
    mean = hidden[1, :4].mean(dim=0)
    torch.testing.assert_close(model.encode_text(**TEXTS).layer1[1], model.shared_encoder.fc1(mean))
    patches = model.image_encoder(PIXELS)[:, 1:].mean(dim=1)
    torch.testing.assert_close(model.encode_image(PIXELS).layer1, model.shared_encoder.fc1(patches))


@torch.no_grad()
def test_cached_texts_give_what_texts_give() -> None:
    """Training on a cache rests on this."""
    model = make_smke(token_type="scaled")
    hidden = model.text_encoder(**TEXTS).last_hidden_state
    features = model.image_encoder.backbone_features(PIXELS)
    cached = model(text_hidden_states=hidden, attention_mask=MASK, image_backbone_features=features)
    live = model(**TEXTS, pixel_values=PIXELS)
    torch.testing.assert_close(cached.logits_per_image, live.logits_per_image)
    with pytest.raises(ValueError, match="exactly one of input_ids"):
        model(**TEXTS, text_hidden_states=hidden, pixel_values=PIXELS)


@torch.no_grad()
def test_scores_use_the_temperature_of_the_embedding_layer() -> None:
    """Each contrast layer has its own; search scores with that of the layer it embeds with."""
    model = make_smke()
    model.logit_scale.copy_(torch.tensor([1.0, 2.0]))
    out = model(**TEXTS, pixel_values=PIXELS)
    torch.testing.assert_close(out.logits_per_image, torch.e**2 * out.image_embeds @ out.text_embeds.T)
    torch.testing.assert_close(out.logit_scale, torch.tensor([torch.e, torch.e**2]))


@torch.no_grad()
def test_matching_is_equations_64_and_65() -> None:
    """B pairs that belong together, B pictures with a wrong text, B texts with a wrong picture, on h' and on h''."""
    model = make_smke(itm_size=6)
    torch.manual_seed(3)
    out = model(**TEXTS, pixel_values=PIXELS, matching="hard")
    torch.manual_seed(3)
    texts, images = sample_negatives(out.logits_per_image, None, hard=True)
    heads = model.matching
    rows = [(0, 0), (1, 1), (2, 2), *enumerate(texts.tolist()), *((i, k) for k, i in enumerate(images.tolist()))]
    for layer, found in enumerate((out.itm_logits1, out.itm_logits2)):
        image, text = (getattr(out, f"{kind}_layer{layer + 1}") for kind in ("image", "text"))
        for row, (i, t) in enumerate(rows):
            fused = heads.image[layer].weight @ image[i] + heads.text[layer].weight @ text[t]
            torch.testing.assert_close(found[row], heads.classifier[layer](fused))
    with pytest.raises(ValueError, match="itm_size > 0"):
        make_smke()(**TEXTS, pixel_values=PIXELS, matching="hard")


def test_negatives_are_drawn_by_similarity_and_never_the_same_picture() -> None:
    """Hard: in proportion to exp(similarity); random: all alike; another caption of the picture is no negative."""
    torch.manual_seed(0)
    similarity = torch.tensor([[9.0, 1.0, 0.0, 9.0], [1.0, 9.0, 0.0, 1.0], [0.0, 0.0, 9.0, 0.0], [9.0, 1.0, 0.0, 9.0]])
    ids = torch.tensor([0, 1, 2, 0])  # rows 0 and 3 show one picture
    draws = torch.stack([sample_negatives(similarity, ids, hard=True)[0] for _ in range(3000)])
    share = [(draws[:, 0] == row).float().mean().item() for row in range(4)]
    assert share[0] == share[3] == 0.0
    assert share[1] == pytest.approx(torch.e / (1 + torch.e), abs=0.03)
    flat = torch.stack([sample_negatives(similarity, ids, hard=False)[1] for _ in range(3000)])
    assert (flat[:, 1] == 0).float().mean().item() == pytest.approx(1 / 3, abs=0.03)
    with pytest.raises(ValueError, match="every other row shows the same picture"):
        sample_negatives(torch.zeros(2, 2), torch.tensor([4, 4]), hard=False)


@torch.no_grad()
def test_tokens_for_patch_matching() -> None:
    """Unit vectors of patches and words in one space: h'' without target-CMLI, g(h''') with it."""
    plain, reduced = make_smke(), make_smke(cmli_size=5)
    assert plain.get_image_tokens(PIXELS).shape == (3, 4, WIDTH)
    assert plain.get_text_tokens(**TEXTS).shape == (3, 6, WIDTH)
    patches = reduced.get_image_tokens(PIXELS)
    torch.testing.assert_close(patches.norm(dim=-1), torch.ones(3, 4))
    out = reduced(**TEXTS, pixel_values=PIXELS, tokens=True, teacher_patches=torch.ones(3, 4, 10))
    expected = F.normalize(reduced.cmli_projection(out.image_tokens3), dim=-1)
    torch.testing.assert_close(patches, expected)
    torch.testing.assert_close(out.text_reduced, reduced.cmli_projection(out.text_tokens3))
    assert out.teacher_reduced.shape == (3, 4, 5)
    with pytest.raises(ValueError, match="cmli_size > 0"):
        plain(**TEXTS, pixel_values=PIXELS, tokens=True, teacher_patches=torch.ones(3, 4, 10))


@torch.no_grad()
def test_attention_is_that_of_the_block() -> None:
    """Rows sum to one, and the path that shows the weights computes the same outputs."""
    model = make_smke()
    weights = model.get_image_attention(PIXELS)
    assert weights.shape == (3, 5, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 5))
    shown = model.encode_image(PIXELS, tokens=True, attention=True)
    torch.testing.assert_close(shown.tokens2, model.encode_image(PIXELS, tokens=True).tokens2)
    with pytest.raises(ValueError, match="MLP"):
        make_smke(shared="mlp").get_image_attention(PIXELS)


@torch.no_grad()
def test_what_only_training_needs_can_go() -> None:
    """The head is discarded after training (section 3.2.1.3): same embeddings, fewer parameters; it saves and loads."""
    model = make_smke(itm_size=6, cmli_size=5, contrast_layers=[1, 2])
    before = model.get_image_features(PIXELS).pooler_output
    count = model.num_parameters()
    model.without_training_parts()
    assert model.num_parameters() < count
    torch.testing.assert_close(model.get_image_features(PIXELS).pooler_output, before)
    again = type(model)(model.config)
    again.load_state_dict(model.state_dict())
    kept = make_smke(shared="mlp").without_training_parts()
    assert kept.shared_encoder.head is not None  # the MLP searches with it


def test_auto_classes_load_what_was_saved(tmp_path: Path) -> None:
    """Weights in safetensors, both heads, and the same answer; nothing of this package but the registration."""
    model = make_smke("cnn", token_type="scaled")
    enable_remote_code(model.config)
    model.save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        again = auto.from_pretrained(tmp_path, trust_remote_code=False).eval()
        with torch.no_grad():
            found = again(**TEXTS, pixel_values=PIXELS).logits_per_image
            torch.testing.assert_close(found, model(**TEXTS, pixel_values=PIXELS).logits_per_image)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "modeling_smke.py", "shared_encoder.py", "type_embedding.py"} <= files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": "cnn"}, "shared must be one of"),
        ({"token_type": "inside"}, "token_type must be one of"),
        ({"hidden_size": 20}, "16 wide and the shared encoder takes 20"),
        ({"num_attention_heads": 3}, "no multiple of num_attention_heads 3"),
        ({"head_size": 0, "shared": "mlp"}, "head_size is 0"),
        ({"contrast_layers": [4]}, "must be one of 1, 2, 3"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    """Each of these would fail far from its cause, or train something else."""
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@torch.no_grad()
def test_feature_dropout_acts_on_the_backbone_while_training_only() -> None:
    """Photos are few and a frozen backbone's channels many; an answer must not be drawn at random, though."""
    encoder = make_smke("cnn", image_config=image_config("cnn", feature_dropout=1.0)).image_encoder
    plain = make_smke("cnn").image_encoder
    torch.testing.assert_close(encoder(pixel_values=PIXELS), plain(pixel_values=PIXELS))
    nothing = torch.zeros_like(plain.backbone_features(PIXELS))
    torch.testing.assert_close(encoder.train()(pixel_values=PIXELS), plain(backbone_features=nothing))


def test_a_backbone_with_tables_that_no_file_holds_loads_again(tmp_path: Path) -> None:
    """timm's BEiT looks positions up in a table that is computed, not saved; loading would leave it unset."""
    small = {"img_size": 32, "depth": 1, "embed_dim": 16, "num_heads": 2}
    image = image_config("timm-vit", backbone_name="beit_base_patch16_224", backbone_options=small)
    model = make_smke(image_config=image)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again.encode_image(PIXELS).layer2, model.encode_image(PIXELS).layer2)
