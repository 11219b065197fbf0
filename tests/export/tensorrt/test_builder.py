"""Building engines and answering from them, with a stand-in for TensorRT (see tests/fake_tensorrt.py).

The stand-in checks the order of calls and runs the graphs on the CPU; that TensorRT itself reads and runs them is what
``test_gpu.py`` is for.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from vlkd_export.golden import drawn_pictures
from vlkd_export.tensorrt.builder import build_engines
from vlkd_hub.errors import BundleError, InvalidInputError, MissingDependencyError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.sessions import open_session
from vlkd_hub.runtime.tensorrt import TensorrtStudent, student


@pytest.mark.parametrize("version", ["10.15.1", "11.4.0"])
def test_build_once_then_find(prepared: Path, tmp_path: Path, fake_gpu: Any, version: str) -> None:
    """The second start builds nothing: engines are found by what decides them."""
    trt = fake_gpu(version)
    first = build_engines(prepared, tmp_path / "engines")
    assert [report.built for report in first] == [True] * 5
    assert trt.calls == ["network", "parse", "build"] * 5
    assert (tmp_path / "engines" / "timing.cache").read_bytes() == b"+" * 5, "each build adds to the timings"
    again = build_engines(prepared, tmp_path / "engines")
    assert [report.built for report in again] == [False] * 5
    assert [report.engine for report in again] == [report.engine for report in first]


def test_another_tensorrt_builds_its_own(prepared: Path, tmp_path: Path, fake_gpu: Any) -> None:
    fake_gpu("10.15.1")
    build_engines(prepared, tmp_path)
    fake_gpu("11.4.0")
    assert all(report.built for report in build_engines(prepared, tmp_path))


def test_timings_of_another_gpu_are_left_out(prepared: Path, tmp_path: Path, fake_gpu: Any) -> None:
    fake_gpu()
    (tmp_path / "timing.cache").write_bytes(b"of another GPU")
    assert all(report.built for report in build_engines(prepared, tmp_path))
    assert (tmp_path / "timing.cache").read_bytes() == b"+" * 5


def test_the_student_answers_from_engines(prepared: Path, tmp_path: Path, fake_gpu: Any) -> None:
    """The same methods, and on the same arithmetic the same words: pictures, texts, captions, answers, beams."""
    fake_gpu()
    build_engines(prepared, tmp_path)
    engine_student = TensorrtStudent.from_pretrained(prepared, engines=tmp_path)
    onnx_student = OnnxStudent.from_pretrained(prepared)
    pictures = [picture.image for picture in drawn_pictures()[:8]]
    np.testing.assert_allclose(engine_student.embed_images(pictures), onnx_student.embed_images(pictures), atol=5e-3)
    texts = ["a red circle", "what color is the square ?"]
    np.testing.assert_allclose(engine_student.embed_texts(texts), onnx_student.embed_texts(texts), atol=5e-3)
    options: dict[str, Any] = {"max_new_tokens": 5}
    assert engine_student.caption(pictures, **options) == onnx_student.caption(pictures, **options)
    assert engine_student.answer(pictures[:2], texts, **options) == onnx_student.answer(pictures[:2], texts, **options)
    options["num_beams"] = 3
    assert engine_student.caption(pictures, **options) == onnx_student.caption(pictures, **options)


def test_a_text_longer_than_the_engines_is_told(prepared: Path, tmp_path: Path, fake_gpu: Any) -> None:
    fake_gpu()
    build_engines(prepared, tmp_path)
    served = TensorrtStudent.from_pretrained(prepared, engines=tmp_path)
    settings = served.settings("caption", num_beams=7, max_new_tokens=2)
    with pytest.raises(InvalidInputError, match="was built for"):
        served.write_tokens("caption", [drawn_pictures()[0].image], [None], settings)


def test_engines_that_are_not_there(prepared: Path, tmp_path: Path, fake_gpu: Any) -> None:
    """No silent fall-back to onnxruntime: the line says what to build."""
    fake_gpu()
    with pytest.raises(BundleError, match="holds no engine of .* compute capability 9.0"):
        TensorrtStudent.from_pretrained(prepared, engines=tmp_path)


def test_through_onnxruntimes_provider(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each graph with its own cache and shapes; onnxruntime's CPU runs them here, where it has no such provider."""
    asked: dict[str, Any] = {}

    def on_the_cpu(path: Path, *, providers: list[Any], allowed_external: set[str]) -> Any:
        asked[path.stem] = providers
        return open_session(path, allowed_external=allowed_external)

    monkeypatch.setattr(student, "open_session", on_the_cpu)
    served = TensorrtStudent.from_pretrained(prepared, engines=tmp_path, through="onnxruntime")
    pictures = [picture.image for picture in drawn_pictures()[:3]]
    expected = OnnxStudent.from_pretrained(prepared).caption(pictures, max_new_tokens=4)
    assert served.caption(pictures, max_new_tokens=4) == expected
    for graph, (provider, behind) in asked.items():
        assert provider[0] == "TensorrtExecutionProvider" and behind == "CUDAExecutionProvider"
        assert provider[1]["trt_engine_cache_path"] == str(tmp_path / graph)
        assert "trt_profile_max_shapes" in provider[1]
    with pytest.raises(InvalidInputError, match="'tensorrt' or 'onnxruntime'"):
        TensorrtStudent.from_pretrained(prepared, through="tvm")


def test_tensorrts_own_words_reach_the_person(prepared: Path, tmp_path: Path, fake_gpu: Any) -> None:
    fake_gpu()
    bundle = tmp_path / "bundle"
    shutil.copytree(prepared, bundle)
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "b", [], [helper.make_empty_tensor_value_info("y")]
    )
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    rows = helper.make_tensor_value_info
    inputs = [rows("c", TensorProto.BOOL, []), rows("x", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([node], "g", inputs, [rows("z", TensorProto.FLOAT, [1])])
    save(helper.make_model(graph), bundle / "tensorrt" / "text_encoder.onnx")
    with pytest.raises(BundleError, match="importIf"):
        build_engines(bundle, tmp_path / "engines")


def test_without_tensorrt(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, and any other without: what is missing, and the command."""
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r"'tensorrt' is needed .*vlkd-hub\[tensorrt\]"):
        build_engines(prepared)
