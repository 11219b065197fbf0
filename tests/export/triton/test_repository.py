"""The repository runs, with a stand-in for Triton (see fake_triton.py), and answers as the bundle does."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlkd_export.golden import drawn_pictures
from vlkd_export.triton.model_config import to_pbtxt
from vlkd_export.triton.repository import write_repository
from vlkd_export.triton.settings import TritonSettings
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime import OnnxStudent

GRAPHS = {"image_encoder", "text_encoder", "cross_attention", "decoder_first", "decoder_next", "scores"}
PYTHON = {"preprocess", "tokenize", "caption", "vqa"}
ENSEMBLES = {"embed_image", "embed_text", "similarity"}
PICTURES = [picture.image.convert("RGB") for picture in drawn_pictures()[:5]]
TEXTS = ["a red circle", "what color is the square ?", "two"]


def column(values: list[bytes]) -> Any:
    return np.array(values, dtype=object).reshape(-1, 1)


def encoded() -> Any:
    """PNG, so that what is decoded is what was drawn."""
    files = []
    for picture in PICTURES:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        files.append(buffer.getvalue())
    return column(files)


@pytest.fixture(scope="module")
def student(tiny_bundle: Path) -> OnnxStudent:
    return OnnxStudent.from_pretrained(tiny_bundle)


def test_every_task_has_its_models(repository: tuple[Path, dict[str, Any]]) -> None:
    folder, configs = repository
    assert set(configs) == GRAPHS | PYTHON | ENSEMBLES
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(configs)
    for name, config in configs.items():
        assert (folder / name / "config.pbtxt").read_text() == to_pbtxt(config)
        assert (folder / name / "1").is_dir(), "Triton wants a version, of ensembles too"
        assert config["version_policy"] == {"latest": {"num_versions": 1}}
        assert name in ENSEMBLES or config["instance_group"][0]["count"] == 1
    assert all(configs[name]["dynamic_batching"] for name in GRAPHS - {"scores"})


def test_search(server: Any, student: OnnxStudent) -> None:
    """Both sides, and every picture against every text."""
    images = server.infer("embed_image", {"IMAGE": encoded()})["image_embeds"]
    np.testing.assert_allclose(images, student.embed_images(PICTURES), atol=1e-5)
    rows = column([text.encode() for text in TEXTS])
    texts = server.infer("embed_text", {"TEXT": rows})["text_embeds"]
    np.testing.assert_allclose(texts, student.embed_texts(TEXTS), atol=1e-5)
    cosine = server.infer("similarity", {"IMAGE": encoded(), "TEXT": rows})["cosine"]
    np.testing.assert_allclose(cosine, images @ texts.T, atol=1e-5)


@pytest.mark.parametrize("beams", [None, 3])
def test_captions_and_answers(server: Any, student: OnnxStudent, beams: int | None) -> None:
    """Token by token through the server's models: the words of the student."""
    options: dict[str, Any] = {"MAX_NEW_TOKENS": np.array([[5]] * 5, np.int32)}
    if beams is not None:
        options["NUM_BEAMS"] = np.array([[beams]] * 5, np.int32)
    asked = [TEXTS[1]] * 5
    found = server.infer("caption", {"IMAGE": encoded()} | options)["TEXT"]
    expected = student.caption(PICTURES, num_beams=beams, max_new_tokens=5)
    assert [row.decode() for row in found[:, 0]] == expected
    questions = column([text.encode() for text in asked])
    found = server.infer("vqa", {"IMAGE": encoded(), "QUESTION": questions} | options)["TEXT"]
    expected = student.answer(PICTURES, asked, num_beams=beams, max_new_tokens=5)
    assert [row.decode() for row in found[:, 0]] == expected
    assert {"image_encoder", "text_encoder", "cross_attention", "decoder_first", "decoder_next"} <= set(server.calls)


def test_what_cannot_be_answered_is_an_error_of_that_request(server: Any) -> None:
    """Not a crash of the backend, which would take the other requests with it."""
    for name, feeds, words in (
        ("preprocess", {"IMAGE": column([b"no picture"])}, "Cannot decode"),
        ("tokenize", {"TEXT": column([b"\xff\xfe"])}, "utf-8"),
        ("caption", {"IMAGE": encoded(), "NUM_BEAMS": np.full((5, 1), 7, np.int32)}, "6 rows"),
        ("vqa", {"IMAGE": encoded()[:1], "QUESTION": column([b"  "])}, "needs a question"),
    ):
        with pytest.raises(Exception, match=words):
            server.infer(name, feeds)


def test_warm_up_requests_run(server: Any, repository: tuple[Path, dict[str, Any]]) -> None:
    """A warm-up that fails keeps the model from loading."""
    warmed = [name for name, config in repository[1].items() if "model_warmup" in config]
    assert set(warmed) == GRAPHS - {"scores"} | {"preprocess", "tokenize"}
    for name in warmed:
        server.warm_up(name)


def test_the_models_of_the_python_backend_need_no_torch(repository: tuple[Path, dict[str, Any]]) -> None:
    """The image that serves holds vlkd-hub's ground floor and nothing more."""
    program = (
        "import sys, types; sys.modules['triton_python_backend_utils'] = types.ModuleType('pb')\n"
        "for path in sys.argv[1:]: exec(compile(open(path).read(), path, 'exec'), {'__name__': 'm'})\n"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    )
    files = [str(repository[0] / name / "1" / "model.py") for name in sorted(PYTHON)]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_gpu(tiny_bundle: Path, tmp_path: Path) -> None:
    """Graphs go to the GPU; decoding and tokenizing stay where they are."""
    configs = write_repository(tiny_bundle, tmp_path / "models", TritonSettings(device="gpu", instances=2))
    kinds = {name: c["instance_group"][0]["kind"] for name, c in configs.items() if "instance_group" in c}
    assert {name for name, kind in kinds.items() if kind == "KIND_GPU"} == GRAPHS
    assert {name for name, kind in kinds.items() if kind == "KIND_CPU"} == PYTHON


def test_written_again_over_itself_and_over_nothing_else(tiny_bundle: Path, tmp_path: Path) -> None:
    write_repository(tiny_bundle, tmp_path / "models", TritonSettings())
    write_repository(tiny_bundle, tmp_path / "models", TritonSettings(batch=2))
    assert "max_batch_size: 2" in (tmp_path / "models" / "image_encoder" / "config.pbtxt").read_text()
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match="left alone"):
        write_repository(tiny_bundle, tmp_path / "mine", TritonSettings())


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"instances": 0}, {"device": "tpu"}, {"queue_delay_us": -1}])
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        TritonSettings(**wrong)
