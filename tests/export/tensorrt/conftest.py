"""Fixtures of the TensorRT exporter's tests."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest


@pytest.fixture(scope="session")
def tiny_graphs(tiny_bundle: Path) -> dict[str, onnx.ModelProto]:
    """The graphs of the tiny bundle that go to TensorRT."""
    names = ("image_encoder", "text_encoder", "cross_attention", "decoder")
    return {name: onnx.load(tiny_bundle / "onnx" / f"{name}.onnx") for name in names}


@pytest.fixture(scope="session")
def prepared(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with graphs for TensorRT in fp16."""
    from vlkd_export.tensorrt.prepare import TensorrtSettings, prepare_tensorrt

    folder = tmp_path_factory.mktemp("tensorrt") / "bundle"
    prepare_tensorrt(tiny_bundle, folder, TensorrtSettings(precision="fp16", batch=6))
    return folder
