"""The torch runner: the same questions that the ONNX runner answers, over the tiny student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.inference import TorchStudent, load_processor
from vlkd_hub.models import DualEncoderConfig, DualEncoderModel, DualEncoderProcessor
from vlkd_hub.models.dual_encoder import VisionTowerConfig
from vlkd_hub.picture_cache import PictureCache

DIM = 8


@pytest.fixture(scope="module")
def student(tiny_student: Path) -> TorchStudent:
    return TorchStudent.from_pretrained(tiny_student, batch_size=2)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, size=(40, 50, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="module")
def dual(tiny_student: Path) -> TorchStudent:
    """An aligned teacher, which only embeds; its vectors come out of the model without unit length."""
    torch.manual_seed(0)
    narrow = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, **narrow}
    config = DualEncoderConfig(
        vision_config=VisionTowerConfig(
            backbone_type="hf", backbone_config=backbone, pool="cls", image_size=32, projection_dim=DIM
        ),
        text_config=BertConfig(vocab_size=30, **narrow),
        projection_dim=DIM,
    )
    processor = load_processor(tiny_student)
    pair = DualEncoderProcessor(processor.image_processor, processor.tokenizer)
    return TorchStudent(DualEncoderModel(config), pair, batch_size=2)


@pytest.mark.parametrize("runner", ["student", "dual"])
def test_unit_vectors(request: pytest.FixtureRequest, runner: str, pictures: list[Image.Image]) -> None:
    """Five in batches of two: none lost, order kept, padding of a batch invisible."""
    model = request.getfixturevalue(runner)
    texts = ["a red circle", "blue", "how many are there ?", "a picture of two square", "one"]
    for vectors, again in (
        (model.embed_images(pictures), [model.embed_images([picture])[0] for picture in pictures]),
        (model.embed_texts(texts), [model.embed_texts([text])[0] for text in texts]),
    ):
        assert vectors.shape == (5, DIM)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(vectors, np.stack(again), atol=1e-5)
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


@pytest.mark.parametrize("runner", ["student", "dual"])
def test_nothing_in_nothing_out(request: pytest.FixtureRequest, runner: str) -> None:
    model = request.getfixturevalue(runner)
    for vectors in (model.embed_images([]), model.embed_texts([])):
        assert vectors.shape == (0, DIM)
        assert vectors.dtype == np.float32


def test_nothing_to_write_about(student: TorchStudent) -> None:
    assert student.caption([]) == []
    assert student.answer([], []) == []


def test_captions_and_answers(student: TorchStudent, pictures: list[Image.Image]) -> None:
    """One text each, no special tokens in it, and never longer than asked."""
    captions = student.caption(pictures, max_new_tokens=4)
    answers = student.answer(pictures[:3], ["what color is the circle ?"] * 3, num_beams=2, max_new_tokens=3)
    assert (len(captions), len(answers)) == (5, 3)
    assert all(isinstance(text, str) and "[" not in text for text in captions + answers)
    assert all(len(text.split()) <= 4 for text in captions)


def test_a_picture_that_comes_twice_is_encoded_once(
    student: TorchStudent, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several questions about one picture are the common case; each must still get that picture's own answer."""
    monkeypatch.setattr(student, "_encoded", PictureCache(10**6))
    encoded = []
    whole = student.model.vlkd.image_tokens
    monkeypatch.setattr(student.model.vlkd, "image_tokens", lambda pixels: encoded.append(len(pixels)) or whole(pixels))
    question = "what shape is there ?"
    same = student.answer([pictures[0], pictures[0]], [question, question])
    assert same[0] == same[1]
    assert encoded == [1]
    student.caption(pictures[:1])
    vectors = student.embed_images(pictures[:1])
    assert encoded == [1]
    tokens = student._visual_tokens([pictures[1], pictures[0], pictures[1]])
    assert torch.equal(tokens[0], tokens[2])
    assert not torch.equal(tokens[0], tokens[1])
    np.testing.assert_allclose(tokens[1, 0].numpy(), vectors[0], atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(tokens[1], whole(student._pixels([pictures[0]]))[0])


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_refused(student: TorchStudent, pictures: list[Image.Image], question: str) -> None:
    with pytest.raises(InvalidInputError, match="needs a question"):
        student.answer(pictures[:1], [question])


def test_one_question_a_picture(student: TorchStudent, pictures: list[Image.Image]) -> None:
    with pytest.raises(InvalidInputError, match="got 2 pictures and 1 questions"):
        student.answer(pictures[:2], ["what color ?"])


def test_a_dual_encoder_cannot_write(dual: TorchStudent, pictures: list[Image.Image]) -> None:
    for write in (lambda: dual.caption(pictures[:1]), lambda: dual.answer(pictures[:1], ["what color ?"])):
        with pytest.raises(InvalidInputError, match="DualEncoderModel is a dual encoder: it searches but cannot write"):
            write()


def test_shared_tables_count_once(student: TorchStudent) -> None:
    tables = sum(value.numel() for value in student.model.state_dict().values())
    vocabulary, width = student.model.lm_head.weight.shape
    buffers = sum(value.numel() for name, value in student.model.named_buffers() if name in student.model.state_dict())
    assert student.num_parameters == tables - buffers - 2 * vocabulary * width


def test_the_processor_keeps_pillows_resize(student: TorchStudent) -> None:
    assert type(student.processor.image_processor).__name__ == "CLIPImageProcessorPil"
