"""A graph runs where it was asked to, or there is an error that says what to install."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError, MissingDependencyError
from vlkd_hub.runtime import OnnxStudent, providers
from vlkd_hub.runtime.providers import (
    PROVIDERS,
    installed_providers,
    open_graph,
    provider_of,
    resolve_choice,
)


def test_every_provider_opens_or_names_what_is_missing(tiny_bundle: Path) -> None:
    """None of them may quietly become another one."""
    here = installed_providers()
    assert set(here) == set(PROVIDERS) and here["cpu"]
    for name, provider in PROVIDERS.items():
        if here[name]:
            session = open_graph(tiny_bundle / "onnx" / "decoder.onnx", provider=name, threads=1)
            assert set(session.get_providers()) >= set(provider.onnxruntime[:1])
        else:
            with pytest.raises(MissingDependencyError, match="onnxruntime-gpu|vlkd-hub"):
                open_graph(tiny_bundle / "onnx" / "decoder.onnx", provider=name)


def test_a_provider_without_its_package(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where only the server was installed."""
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"'openvino' is needed here.*vlkd-hub\[openvino\]"):
        open_graph(tiny_bundle / "onnx" / "decoder.onnx", provider="openvino")
    monkeypatch.setattr(providers, "find_spec", lambda name: None)
    assert not any(installed_providers().values())


def test_which_graph_runs_where() -> None:
    """One name for all, or a name for some and the CPU for the rest."""
    assert provider_of(None, "decoder") == "cpu"
    assert provider_of("cuda", "decoder") == "cuda"
    assert provider_of({"decoder": "openvino"}, "decoder") == "openvino"
    assert provider_of({"decoder": "openvino"}, "image_encoder") == "cpu"
    with pytest.raises(InvalidInputError, match="Unknown provider 'gpu'. Choose one of cpu"):
        provider_of("gpu", "decoder")


def test_what_was_measured_is_in_the_manifest(tiny_bundle: Path) -> None:
    """A quantized bundle says where each of its graphs was fastest; a plain one cannot."""
    manifest = read_manifest(tiny_bundle)
    assert resolve_choice("cpu", manifest) == "cpu" and resolve_choice(None, manifest) is None
    with pytest.raises(InvalidInputError, match="from a plain export"):
        OnnxStudent.from_pretrained(tiny_bundle, provider="measured")
    plan = {"image_encoder": {"provider": "openvino"}, "decoder": {"provider": "cpu"}}
    quantized = replace(manifest, quantization={"plan": plan})
    assert resolve_choice("measured", quantized) == {"image_encoder": "openvino", "decoder": "cpu"}


def test_two_ways_of_naming_it_are_refused(tiny_bundle: Path) -> None:
    """One of them would be ignored."""
    with pytest.raises(InvalidInputError, match="not both"):
        open_graph(tiny_bundle / "onnx" / "decoder.onnx", provider="cpu", providers=["CPUExecutionProvider"])


def test_a_student_on_openvino_answers_as_on_onnxruntime(tiny_bundle: Path) -> None:
    """Whole texts through the cache, and vectors; in fp32, so that the words must be the same."""
    pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install "vlkd-hub[openvino]"')
    from vlkd_export.golden import TEXTS, drawn_pictures

    pictures = drawn_pictures()[:3]
    images, questions = [p.image for p in pictures], [p.question or "" for p in pictures]
    plain = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    other = OnnxStudent.from_pretrained(tiny_bundle, threads=1, provider="openvino-fp32")
    mixed = OnnxStudent.from_pretrained(tiny_bundle, threads=1, provider={"decoder": "openvino-fp32"})
    assert other.sessions["decoder"].get_providers() == ["OpenVINO (f32)"]
    assert mixed.sessions["image_encoder"].get_providers() == ["CPUExecutionProvider"]
    for student in (other, mixed):
        assert student.caption(images, num_beams=2) == plain.caption(images, num_beams=2)
        assert student.answer(images, questions) == plain.answer(images, questions)
        np.testing.assert_allclose(student.embed_images(images), plain.embed_images(images), atol=1e-5)
        np.testing.assert_allclose(student.embed_texts(list(TEXTS)), plain.embed_texts(list(TEXTS)), atol=1e-5)
