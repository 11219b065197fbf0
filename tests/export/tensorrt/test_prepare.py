"""A bundle prepared for TensorRT: everything in it that a GPU needs, checked where there is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from vlkd_export.tensorrt import prepare
from vlkd_export.tensorrt.operator_support import check_operators
from vlkd_export.tensorrt.prepare import TensorrtSettings, prepare_tensorrt
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError, InvalidInputError, ParityError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.tensorrt import read_plan

GRAPHS = {"image_encoder", "text_encoder", "cross_attention", "decoder_first", "decoder_next"}


def test_what_stands_in_it(prepared: Path, tiny_bundle: Path) -> None:
    plan = read_plan(prepared)
    assert set(plan.profiles) == GRAPHS and plan.precision == "fp16"
    assert all(plan.checks["smallest_cosine"][name] > 0.999 for name in GRAPHS)
    for name in GRAPHS:
        assert check_operators(onnx.load(prepared / "tensorrt" / f"{name}.onnx")) == []
    files = read_manifest(prepared).files
    assert {f"tensorrt/{name}.onnx" for name in GRAPHS} | {"tensorrt/plan.json"} <= files.keys()
    assert read_manifest(prepared).fingerprint == read_manifest(tiny_bundle).fingerprint
    assert OnnxStudent.from_pretrained(prepared).manifest.precision == "fp32"


def test_again_over_itself(prepared: Path, tmp_path: Path) -> None:
    """A prepared bundle is a bundle; its plan is made anew."""
    plan = prepare_tensorrt(prepared, tmp_path / "again", TensorrtSettings(precision="int8", batch=2))
    assert plan.precision == "int8"
    assert all(value > 0.95 for value in plan.checks["smallest_cosine"].values())
    operators = {n.op_type for n in onnx.load(tmp_path / "again" / "tensorrt" / "text_encoder.onnx").graph.node}
    assert "DequantizeLinear" in operators


def test_answers_that_differ_stop_it(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate: no plan, and nothing left behind."""
    monkeypatch.setitem(prepare.SMALLEST_COSINE, "fp16", 1.1)
    with pytest.raises(ParityError, match="choose|Choose a finer precision"):
        prepare_tensorrt(tiny_bundle, tmp_path / "out", TensorrtSettings(precision="fp16"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Unknown precision"):
        TensorrtSettings(precision="int4")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BundleError, match="left alone"):
        prepare_tensorrt(tiny_bundle, tmp_path / "mine", TensorrtSettings())
