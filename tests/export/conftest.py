"""Fixtures of the exporter's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def traced_before(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exports of the tiny student take the graphs of its bundle instead of tracing them again: seconds saved each."""
    from vlkd_export.onnx import export
    from vlkd_export.onnx.graph import GraphSpec

    def copy(spec: GraphSpec, directory: Path, opset: int) -> Path:
        return Path(shutil.copy(tiny_bundle / "onnx" / f"{spec.name}.onnx", directory))

    monkeypatch.setattr(export, "export_graph", copy)
    return tiny_bundle
