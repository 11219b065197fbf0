"""Putting models together: what is taken over from the teacher, what is solved, what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
)

from vlkd_hub.errors import RecipeError
from vlkd_hub.models import DualEncoderModel, VlkdForConditionalGeneration
from vlkd_training import build
from vlkd_training.build import build_student, build_teacher, load_teacher, solve_text_projection
from vlkd_training.encoders import TextEncoder, VisionBackbone
from vlkd_training.recipe import StudentSpec, TeacherSpec

VOCAB, WIDTH, DIM = 24, 16, 8
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def tokenizer() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *(f"w{n}" for n in range(VOCAB - 5))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{word.strip('[]').lower()}_token": word for word in special}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def bert() -> TextEncoder:
    config = BertConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
    )
    return TextEncoder(BertModel(config, add_pooling_layer=False).eval(), tokenizer())


def bart() -> TextEncoder:
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    wide = {"d_model": WIDTH, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
    return TextEncoder(BartModel(BartConfig(vocab_size=VOCAB, **layers, **wide, **ids)).eval(), tokenizer())


def clip() -> CLIPModel:
    torch.manual_seed(7)
    narrow = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**narrow, "vocab_size": VOCAB},
        vision_config={**narrow, "image_size": 32, "patch_size": 16},
        projection_dim=DIM,
    )
    return CLIPModel(config).eval()


PROCESSOR = SimpleNamespace(image_processor=CLIPImageProcessorPil(size={"height": 32, "width": 32}))


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch, seeded: None) -> TextEncoder:
    """The text encoder that every spec finds."""
    found = bert()
    monkeypatch.setattr(build, "load_text_encoder", lambda name: found)
    return found


def make_student(teacher: Any | None = None, tasks: dict | None = None, **spec: Any) -> VlkdForConditionalGeneration:
    return build_student(StudentSpec(**spec), teacher or clip(), PROCESSOR, tasks or {})[0].eval()


@torch.no_grad()
def test_the_image_tower_is_the_teachers(text: TextEncoder) -> None:
    """Same weights, so the same unit vector for a picture as the CLIP gives."""
    teacher = clip()
    student = make_student(teacher)
    theirs = torch.nn.functional.normalize(teacher.get_image_features(pixel_values=PIXELS).pooler_output, dim=-1)
    torch.testing.assert_close(student.vlkd.get_image_features(PIXELS).pooler_output, theirs)
    weights = student.vlkd.vision_tower.backbone.state_dict()
    for name, value in teacher.vision_model.state_dict().items():
        assert torch.equal(weights[name], value), name
    assert not any(value.requires_grad for value in student.vlkd.vision_tower.parameters())


@torch.no_grad()
def test_the_text_encoder_and_its_table_are_taken_over(text: TextEncoder) -> None:
    """One table for encoder, decoder and output layer: the pretrained one, not a random one tied over it."""
    student = make_student(decoder={"decoder_layers": 1})
    for name, value in text.module.state_dict().items():
        assert torch.equal(student.vlkd.text_encoder.state_dict()[name], value), name
    table = student.vlkd.text_encoder.get_input_embeddings().weight
    assert student.decoder.embed_tokens.weight is table
    assert student.lm_head.weight is table
    assert len(student.decoder.layers) == 1


@torch.no_grad()
def test_a_bart_brings_its_decoder(monkeypatch: pytest.MonkeyPatch, seeded: None) -> None:
    """Section 3.1: the student starts from BART, both halves."""
    found = bart()
    monkeypatch.setattr(build, "load_text_encoder", lambda name: found)
    student = make_student()
    ids = torch.tensor([[2, 7, 8, 3]])
    context = torch.randn(1, 5, WIDTH)
    ours = student.decoder(input_ids=ids, encoder_hidden_states=context).last_hidden_state
    torch.testing.assert_close(
        ours, found.module.decoder(input_ids=ids, encoder_hidden_states=context).last_hidden_state
    )
    torch.testing.assert_close(
        student.vlkd.text_encoder(input_ids=ids).last_hidden_state,
        found.module.encoder(input_ids=ids).last_hidden_state,
    )


@torch.no_grad()
def test_layers_are_cut_from_the_top(text: TextEncoder) -> None:
    whole = {name: value.clone() for name, value in text.module.state_dict().items()}
    student = make_student(text_encoder_layers=2)
    assert len(student.vlkd.text_encoder.encoder.layer) == 2
    assert student.config.text_encoder.num_hidden_layers == 2
    kept = student.vlkd.text_encoder.state_dict()
    assert len(kept) < len(whole)
    assert all(torch.equal(value, whole[name]) for name, value in kept.items())


@pytest.mark.parametrize("layers", [0, 4])
def test_layers_that_cannot_be_kept_are_refused(text: TextEncoder, layers: int) -> None:
    with pytest.raises(RecipeError, match=f"text_encoder_layers: {layers} of 3 layers cannot be kept"):
        make_student(text_encoder_layers=layers)


@pytest.mark.parametrize(("given", "expected"), [("sqrt_dim", math.sqrt(DIM)), (1.5, 1.5)])
def test_visual_scale(text: TextEncoder, given: float | str, expected: float) -> None:
    assert make_student(visual_scale=given).config.visual_scale == pytest.approx(expected)


def test_generation_ids_come_from_the_tokenizer(text: TextEncoder) -> None:
    config = make_student().config
    found = (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id)
    assert found == (0, 2, 3, 2)


def test_task_changes_keep_the_rest(text: TextEncoder) -> None:
    _, processor = build_student(
        StudentSpec(), clip(), PROCESSOR, {"caption": {"num_masks": 2}, "title": {"prompt": "x"}}
    )
    assert processor.build_prompt("caption") == "A picture of [MASK] [MASK]."
    assert processor.tasks["caption"]["max_new_tokens"] == 32
    assert processor.tasks["title"] == {"prompt": "x"}
    assert processor.tokenizer.model_max_length == text.module.config.max_position_embeddings


@torch.no_grad()
def test_a_teacher_of_two_encoders(monkeypatch: pytest.MonkeyPatch, text: TextEncoder) -> None:
    """Both encoders' weights arrive, a CLIP's own projection too; the student takes the tower on."""
    source = clip()
    tower = {
        "backbone_type": "hf",
        "backbone_name": None,
        "backbone_config": source.config.vision_config.to_dict(),
        "pool": "cls",
        "image_size": 32,
    }
    backbone = VisionBackbone(tower, source.vision_model, [0.5] * 3, [0.25] * 3, source.visual_projection)
    monkeypatch.setattr(build, "load_vision_backbone", lambda name: backbone)
    teacher, processor = build_teacher(TeacherSpec(projection_dim=DIM, image_size=32, resize="crop"))
    teacher.eval()
    assert isinstance(teacher, DualEncoderModel)
    expected = source.get_image_features(pixel_values=PIXELS).pooler_output
    torch.testing.assert_close(teacher.get_image_features(PIXELS).pooler_output, expected)
    assert torch.equal(teacher.text_model.get_input_embeddings().weight, text.module.get_input_embeddings().weight)
    assert list(processor.image_processor.image_std) == [0.25] * 3
    assert processor.image_processor.do_center_crop
    student = make_student(teacher)
    for name, value in teacher.vision_tower.state_dict().items():
        assert torch.equal(student.vlkd.vision_tower.state_dict()[name], value), name
    with pytest.raises(RecipeError, match="resize must be 'squash' or 'crop', got 'stretch'"):
        build_teacher(TeacherSpec(projection_dim=DIM, image_size=32, resize="stretch"))


def test_only_a_teacher_is_loaded_as_one(tiny_student: Any) -> None:
    with pytest.raises(RecipeError, match="holds a 'vlkd' model"):
        load_teacher(tiny_student)


@torch.no_grad()
def test_the_planted_projection_is_found(text: TextEncoder) -> None:
    """Texts whose teacher vectors are a linear map of their encoder outputs give that map back, up to its length."""
    student = make_student()
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(DIM, WIDTH))
    means = rng.normal(size=(200, WIDTH))
    cosine = solve_text_projection(student, means, means @ planted.T, ridge=1e-9)
    assert cosine == pytest.approx(1.0, abs=1e-6)
    found = student.vlkd.text_projection.weight.numpy()
    np.testing.assert_allclose(found * np.linalg.norm(planted) / np.linalg.norm(found), planted, atol=1e-5)


@torch.no_grad()
def test_the_way_back_blows_nothing_up(text: TextEncoder) -> None:
    """Where the teacher's vectors nearly lie in a plane, least squares alone leaves the other directions near zero."""
    student = make_student()
    rng = np.random.default_rng(0)
    means = rng.normal(size=(200, WIDTH)) * np.geomspace(1, 0.01, WIDTH)  # as an encoder's outputs: few directions lead
    planted = rng.normal(size=(DIM, 2)) @ rng.normal(size=(2, WIDTH))
    targets = means @ planted.T + 1e-3 * rng.normal(size=(200, DIM))
    assert solve_text_projection(student, means, targets) > 0.8
    forth, back = student.vlkd.text_projection.weight, student.text_to_decoder.weight
    amplified = torch.linalg.svdvals(forth)[0] * torch.linalg.svdvals(back)[0]
    assert amplified < 200, f"{amplified:.0f}; plain least squares has 934"


@torch.no_grad()
def test_the_way_back_is_the_pseudo_inverse(text: TextEncoder) -> None:
    """Footnote 1 of section 3.2.3, by the four conditions of Moore and Penrose."""
    student = make_student()
    rng = np.random.default_rng(0)
    means, targets = rng.normal(size=(200, WIDTH)), rng.normal(size=(200, DIM))
    cosine = solve_text_projection(student, means, targets)
    assert 0.0 < cosine < 0.9  # unrelated targets cannot be fitted
    forth, back = student.vlkd.text_projection.weight, student.text_to_decoder.weight
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(forth @ back @ forth, forth, **close)
    torch.testing.assert_close(back @ forth @ back, back, **close)
    torch.testing.assert_close((forth @ back).t(), forth @ back, **close)
    torch.testing.assert_close((back @ forth).t(), back @ forth, **close)


@torch.no_grad()
def test_the_way_back_inverts_a_start_that_is_not_solved(text: TextEncoder) -> None:
    """Footnote 1 asks for it whatever W_e starts from (``least_squares_init: false``)."""
    student = make_student()
    forth, back = student.vlkd.text_projection.weight.double(), student.text_to_decoder.weight.double()
    kept = back @ forth
    torch.testing.assert_close(kept @ kept, kept, atol=1e-4, rtol=0)  # a projection: what W_e keeps, it gives back
    torch.testing.assert_close(kept, kept.t(), atol=1e-4, rtol=0)
    assert float(kept.trace()) > 0.8 * min(forth.shape)


@torch.no_grad()
def test_a_ridge_bears_texts_that_do_not_span_the_space(text: TextEncoder) -> None:
    """Fewer texts than dimensions: least squares alone would be singular."""
    student = make_student()
    means = np.random.default_rng(0).normal(size=(3, WIDTH))
    assert solve_text_projection(student, means, means[:, :DIM]) > 0.99
    assert torch.isfinite(student.text_to_decoder.weight).all()
