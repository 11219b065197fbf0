"""The gate opens for the same student and for nothing else; it says what differs and by how much."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from vlkd_export.golden import drawn_pictures
from vlkd_export.onnx.export import load_reference
from vlkd_export.parity import check_tensors
from vlkd_export.token_parity import check_tokens
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.bundle import read_manifest, write_manifest
from vlkd_hub.errors import ParityError
from vlkd_hub.runtime import OnnxStudent

PICTURES = drawn_pictures()[:6]


@pytest.fixture(scope="module")
def reference(tiny_student: Path) -> TorchReference:
    return load_reference(tiny_student)


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Callable[[str, Callable[[Path], None]], OnnxStudent]:
    """The tiny bundle with one file changed by a function, and hashes to match."""

    def make(name: str, change: Callable[[Path], None]) -> OnnxStudent:
        copy = tmp_path / "bundle"
        shutil.copytree(tiny_bundle, copy)
        manifest = read_manifest(copy)
        change(copy / name)
        write_manifest(copy, manifest)
        return OnnxStudent.from_pretrained(copy, threads=1)

    return make


def nudge(amount: float, wanted: str) -> Callable[[Path], None]:
    """Add ``amount`` to one number of the first weight whose name holds ``wanted``."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        weights = [item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT]
        weight = next(item for item in weights if re.search(wanted, item.name))
        values = onnx.numpy_helper.to_array(weight).copy()
        values.reshape(-1)[values.size // 2] += amount
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save_model(model, path)

    return change


def test_the_export_passes(reference: TorchReference, tiny_bundle: Path) -> None:
    """All graphs, and whole texts by both kinds of search."""
    student = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    tensors = check_tensors(reference, student, PICTURES, 1e-5)
    assert [item.graph for item in tensors] == ["image_encoder", "text_encoder", "search", "decoder"]
    assert all(item.cosine > 1 - 1e-9 and item.cases > 1 for item in tensors)
    tokens, texts = check_tokens(reference, student, PICTURES)
    assert [(item.task, item.num_beams, item.texts) for item in tokens] == [
        ("caption", 1, 6),
        ("caption", 3, 6),
        ("vqa", 1, 6),
        ("vqa", 3, 6),
    ]
    assert {n: {t: len(r) for t, r in some.items()} for n, some in texts.items()} == dict.fromkeys(
        (1, 3), {"caption": 6, "vqa": 6}
    )


@pytest.mark.parametrize(
    ("graph", "weight", "output"),
    [
        ("image_encoder", "class_embedding", "image_embeds|visual_states"),
        ("text_encoder", "LayerNorm.weight", "text_embeds|text_states"),
        ("decoder", "layernorm_embedding.weight", "logits"),
        ("cross_attention", ".", "logits"),
    ],
)
def test_one_changed_weight_is_found_and_named(
    graph: str,
    weight: str,
    output: str,
    reference: TorchReference,
    broken: Callable[[str, Callable[[Path], None]], OnnxStudent],
) -> None:
    """A graph that is almost right writes almost the right captions; nobody would see it."""
    # A key only turns the attention, and hardly so at random weights this small.
    student = broken(f"onnx/{graph}.onnx", nudge(300.0 if graph == "cross_attention" else 3.0, weight))
    # The context's keys and values only show in the decoder that reads them.
    shown = "decoder" if graph == "cross_attention" else graph
    with pytest.raises(ParityError, match=rf"graph {shown} differs.*({output})"):
        check_tensors(reference, student, PICTURES, 1e-4)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_texts_that_differ_are_told_with_token_step_and_margin(
    num_beams: int,
    reference: TorchReference,
    broken: Callable[[str, Callable[[Path], None]], OnnxStudent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first thing that a person needs to know: is it a near tie, or is it broken?"""
    student = broken("onnx/decoder.onnx", nudge(9.0, "layernorm_embedding.bias"))
    if num_beams > 1:
        greedy = [reference.write("caption", PICTURES, 1)[0], reference.write("vqa", PICTURES, 1)[0]]
        real = student.write_tokens
        monkeypatch.setattr(
            student,
            "write_tokens",
            lambda task, images, questions, settings: (
                greedy[task == "vqa"] if settings.num_beams == 1 else real(task, images, questions, settings)
            ),
        )
    message = rf"'caption' writes another text for drawn-00.*num_beams={num_beams}.*step \d+: torch \d+ \(.*\), ONNX"
    with pytest.raises(ParityError, match=message) as caught:
        check_tokens(reference, student, PICTURES)
    assert "margin" in str(caught.value) or "has ended" in str(caught.value)


def test_another_preprocessing_is_found(reference: TorchReference, tiny_bundle: Path) -> None:
    """Every graph is right, and the picture reaches it a little brighter."""
    student = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    student.image_processor.table[0] += 0.05
    with pytest.raises(ParityError, match="image_embeds from picture to vector"):
        check_tensors(reference, student, PICTURES, 1e-4)


def test_a_swapped_tokenizer_is_found(
    reference: TorchReference, broken: Callable[[str, Callable[[Path], None]], OnnxStudent]
) -> None:
    """Every graph is right, and the words reach it as other words."""

    def swap(path: Path) -> None:
        data = json.loads(path.read_text())
        vocabulary = data["model"]["vocab"]
        vocabulary["a"], vocabulary["red"] = vocabulary["red"], vocabulary["a"]
        path.write_text(json.dumps(data))

    with pytest.raises(ParityError, match="text_embeds from text to vector"):
        check_tensors(reference, broken("tokenizer.json", swap), PICTURES, 1e-4)


def test_large_values_have_float32s_own_error() -> None:
    """A pseudo-inverse can blow states up to hundreds; a unit vector keeps its absolute limit."""
    import torch

    from vlkd_export.parity import TensorReport, _further

    start = TensorReport(graph="g", max_abs=0.0, scaled=0.0, cosine=1.0, cases=0)
    large = torch.full((2, 4), 500.0)
    report = _further(start, "case", large, large.numpy() + np.float32(0.01), 1e-4)
    assert report.max_abs == pytest.approx(0.01, rel=1e-2) and report.scaled == pytest.approx(2e-5, rel=1e-2)
    unit = torch.full((2, 4), 0.5)
    with pytest.raises(ParityError, match="graph g differs"):
        _further(start, "case", unit, unit.numpy() + np.float32(2e-4), 1e-4)


def test_a_wrong_shape_is_infinitely_far() -> None:
    """Comparing what can be broadcast would pass on a wrong graph."""
    import torch

    from vlkd_export.parity import _compare

    assert _compare(torch.ones(2, 3), np.ones((1, 3), np.float32)) == (float("inf"), -1.0)
    difference, _ = _compare(torch.ones(2, 3), np.full((2, 3), np.nan, np.float32))
    assert not difference <= 1e9
