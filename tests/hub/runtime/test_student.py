"""The student from its bundle answers as the student in torch does, whatever the batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlkd_hub.bundle import read_manifest, write_manifest
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent

QUESTIONS = ["what color is the circle?", "how many?", "is there a blue square?", "what is it?", "how many circle?"]


@pytest.fixture(scope="module")
def student(tiny_bundle: Path) -> OnnxStudent:
    return OnnxStudent.from_pretrained(tiny_bundle, threads=1)


@pytest.fixture(scope="module")
def in_torch(tiny_student: Path) -> TorchStudent:
    return TorchStudent.from_pretrained(tiny_student)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.RandomState(0)
    return [Image.fromarray(random.randint(0, 256, (20 + 9 * n, 50, 3)).astype(np.uint8)) for n in range(5)]


def test_vectors_equal_torch(student: OnnxStudent, in_torch: TorchStudent, pictures: list[Image.Image]) -> None:
    """Search: both sides, unit length, whatever the batch."""
    found = student.embed_images(pictures)
    np.testing.assert_allclose(found, in_torch.embed_images(pictures), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    texts = ["a red circle.", "one", "the picture of two blue square"]
    np.testing.assert_allclose(student.embed_texts(texts), in_torch.embed_texts(texts), atol=1e-5)
    alone = np.concatenate([student.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(student.embed_texts(texts), alone, atol=1e-6)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_words_equal_torch(
    student: OnnxStudent, in_torch: TorchStudent, pictures: list[Image.Image], num_beams: int
) -> None:
    """Captions and answers; questions of different length are padded, and padding must not be read."""
    options = {"num_beams": num_beams, "max_new_tokens": 6}
    assert student.caption(pictures, **options) == in_torch.caption(pictures, **options)
    answers = student.answer(pictures, QUESTIONS, **options)
    assert answers == in_torch.answer(pictures, QUESTIONS, **options)
    alone = [student.answer([p], [q], **options)[0] for p, q in zip(pictures, QUESTIONS, strict=True)]
    assert answers == alone


def test_batches_of_any_size_and_a_picture_given_twice(tiny_bundle: Path, pictures: list[Image.Image]) -> None:
    """What a server sends: more than a batch, and several questions about one picture."""
    small = OnnxStudent.from_pretrained(tiny_bundle, threads=1, batch_size=2)
    large = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    same = [pictures[0]] * 5
    assert small.answer(same, QUESTIONS) == large.answer([p.copy() for p in same], QUESTIONS)
    np.testing.assert_allclose(small.embed_images(pictures), large.embed_images(pictures), atol=1e-6)


def test_text_alone_can_be_the_context(student: OnnxStudent) -> None:
    """Text-only work: no picture before the prompt."""
    input_ids, mask = student.text_processor(["a picture of [MASK].", "what?"])
    _, states = student.encode_text(input_ids, mask)
    rows = student.generate_from_states(states, mask, student.settings("caption", max_new_tokens=4))
    assert len(rows) == 2 and all(1 <= len(row) <= 4 for row in rows)
    with pytest.raises(InvalidInputError, match="all padding"):
        student.generate_from_states(states, mask * 0, student.settings("caption"))
    with pytest.raises(InvalidInputError, match="Expected a context"):
        student.generate_from_states(states, mask[:, :-1], student.settings("caption"))


def test_nothing_in_nothing_out(student: OnnxStudent) -> None:
    """An empty page of results asks for nothing."""
    dim = student.manifest.embedding_dim
    assert student.embed_images([]).shape == student.embed_texts([]).shape == (0, dim)
    assert student.caption([]) == student.answer([], []) == []


def test_what_cannot_be_asked(student: OnnxStudent, pictures: list[Image.Image]) -> None:
    """In words, before any graph runs."""
    with pytest.raises(InvalidInputError, match="one question a picture"):
        student.answer(pictures, ["what?"])
    with pytest.raises(InvalidInputError, match="needs a question"):
        student.answer(pictures[:1], [" "])
    with pytest.raises(InvalidInputError, match="num_beams"):
        student.caption(pictures, num_beams=0)


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize(
    "name", ["onnx/decoder.onnx", "onnx/image_encoder.onnx", "tokenizer.json", "preprocessor_config.json"]
)
def test_one_changed_byte_is_seen(name: str, copy: Path) -> None:
    """The manifest holds the hash of every file."""
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=name.replace("/", ".")):
        OnnxStudent.from_pretrained(copy)


def change_generation_config(copy: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = copy / "generation_config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    write_manifest(copy, read_manifest(copy, verify=False))


def test_generation_options_that_are_not_done_are_refused(copy: Path) -> None:
    """A bundle made by hand, with an option that would change the words."""
    change_generation_config(copy, lambda config: config | {"repetition_penalty": 2.0})
    with pytest.raises(BundleError, match="repetition_penalty"):
        OnnxStudent.from_pretrained(copy)
    change_generation_config(copy, lambda config: [])
    with pytest.raises(BundleError, match="does not hold an object"):
        OnnxStudent.from_pretrained(copy)


def test_a_bundle_that_only_embeds(copy: Path, pictures: list[Image.Image]) -> None:
    """It searches, and says that it cannot write."""
    from dataclasses import replace

    for name in ("cross_attention", "decoder"):
        (copy / "onnx" / f"{name}.onnx").unlink()
    manifest = replace(read_manifest_unchecked(copy), generation=None, tasks={})
    write_manifest(copy, manifest)
    embedder = OnnxStudent.from_pretrained(copy)
    assert embedder.embed_images(pictures[:1]).shape == (1, manifest.embedding_dim)
    with pytest.raises(InvalidInputError, match="only embeds"):
        embedder.caption(pictures[:1])


def read_manifest_unchecked(folder: Path):  # type: ignore[no-untyped-def]
    from vlkd_hub.bundle import Manifest

    return Manifest.from_json((folder / "manifest.json").read_text())
