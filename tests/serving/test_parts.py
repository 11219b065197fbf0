"""The parts of a real bundle give what the whole student gives."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkd_hub.bundle import read_manifest, write_manifest
from vlkd_serving.engine import Engine
from vlkd_serving.loading import SERVED, load_model, model_source
from vlkd_serving.parts import OnnxParts
from vlkd_serving.runtime import OnnxStudent
from vlkd_serving.settings import ServerSettings

QUESTIONS = ["what color is the circle?", "how many are there? are there two?", "what shape?"]


@pytest.fixture(scope="module")
def student(tiny_bundle: Path) -> OnnxStudent:
    """Opened once."""
    return OnnxStudent.from_pretrained(tiny_bundle, threads=1)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Different pictures of different sizes."""
    random = np.random.default_rng(0)
    sizes = [(40, 30), (33, 64), (50, 50)]
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_embeddings(student: OnnxStudent, images: list[Image.Image]) -> None:
    """Texts of different lengths share a padded batch without changing."""
    parts = OnnxParts(student)
    pictures = parts.encode_pictures([parts.preprocess(image) for image in images])
    np.testing.assert_allclose([each.embedding for each in pictures], student.embed_images(images), atol=1e-5)
    texts = parts.encode_texts([parts.tokenize(text) for text in QUESTIONS])
    np.testing.assert_allclose([each.embedding for each in texts], student.embed_texts(QUESTIONS), atol=1e-5)
    assert [each.tokens for each in texts] == [len(each.states) for each in texts]


@pytest.mark.parametrize("options", [(None, None), (3, None), (1, 4)])
def test_the_engine_writes_what_the_student_writes(
    tiny_bundle: Path, student: OnnxStudent, images: list[Image.Image], options: tuple[int | None, int | None]
) -> None:
    """All at once, captions and questions of different lengths mixed: continuous batching changes no word."""
    beams, longest = options

    async def ask() -> tuple[list[str], list[str]]:
        settings = ServerSettings(max_batch=4, max_texts=4, deadline_s=300.0)
        engine = Engine([model_source("tiny", tiny_bundle, 1)], settings)
        await engine.start()
        try:
            captions = [engine.write("caption", png(image), None, options) for image in images]
            pairs = zip(images, QUESTIONS, strict=True)
            answers = [engine.write("vqa", png(image), question, options) for image, question in pairs]
            texts = await asyncio.gather(*captions, *answers)
        finally:
            await engine.stop()
        assert all(0 < text.score <= 1 for text in texts)
        words = [text.text for text in texts]
        return words[: len(images)], words[len(images) :]

    captions, answers = asyncio.run(ask())
    assert captions == student.caption(images, num_beams=beams, max_new_tokens=longest)
    assert answers == student.answer(images, QUESTIONS, num_beams=beams, max_new_tokens=longest)


def test_special_tokens_as_text(
    tiny_bundle: Path, make_client: Callable[..., object], picture_bytes: Callable[..., bytes]
) -> None:
    """Every special token of the tokenizer, as question and as search text: an answer, never an error of the model."""
    parts = OnnxParts(OnnxStudent.from_pretrained(tiny_bundle, threads=1))
    client = make_client(parts, with_index=False)
    vocabulary = parts.student.text_processor.tokenizer.get_added_tokens_decoder().values()
    special = [str(token.content) for token in vocabulary] + [
        "[PAD]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[UNK]",
        "<s>",
        "</s>",
    ]
    for token in special:
        for text in (token, f"{token} {token} what? {token}", token * 50):
            body = {"question": text}
            answer = client.post("/v1/vqa", files={"image": picture_bytes("red")}, data=body)  # type: ignore[attr-defined]
            assert answer.status_code == 200, (text, answer.text)
            embedded = client.post("/v1/embeddings", json={"input": text})  # type: ignore[attr-defined]
            assert embedded.status_code == 200


def test_a_server_opens_what_it_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    """Not a graph that only other uses have, which would take memory; and no graph at all where none is asked for."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    shutil.copy(bundle / "onnx" / "decoder.onnx", bundle / "onnx" / "greedy_decoder.onnx")
    write_manifest(bundle, read_manifest(tiny_bundle))
    assert "greedy_decoder" in OnnxStudent.from_pretrained(bundle, threads=1).sessions
    for graphs, expected in ((None, set(SERVED)), ((), set()), (("decoder",), {"decoder"})):
        parts: Any = model_source("tiny", bundle, 1, graphs=graphs).load()
        assert set(parts.student.sessions) == expected
    assert set(load_model(bundle, 1).student.sessions) == set(SERVED)


def test_the_provider_reaches_the_graphs(tiny_bundle: Path, images: list[Image.Image]) -> None:
    """OpenVINO in fp32 gives the numbers of onnxruntime, and it is OpenVINO that gives them."""
    pytest.importorskip("openvino", reason="OpenVINO is an extra")
    parts: Any = model_source("tiny", tiny_bundle, 1, provider="openvino-fp32").load()
    plain: Any = model_source("tiny", tiny_bundle, 1).load()
    assert {type(session).__name__ for session in parts.student.sessions.values()} == {"OpenVinoSession"}
    pixels = [parts.preprocess(image) for image in images]
    for one, two in zip(parts.encode_pictures(pixels), plain.encode_pictures(pixels), strict=True):
        np.testing.assert_allclose(one.embedding, two.embedding, atol=1e-4)
