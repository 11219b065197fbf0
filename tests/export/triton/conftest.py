"""A repository of the tiny student, and a stand-in for Triton over it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def repository(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Its folder, and name -> config of its models."""
    from vlkd_export.triton.repository import write_repository
    from vlkd_export.triton.settings import TritonSettings

    folder = tmp_path_factory.mktemp("triton") / "models"
    return folder, write_repository(tiny_bundle, folder, TritonSettings(batch=6))


@pytest.fixture
def server(repository: tuple[Path, dict[str, Any]]) -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("fake_triton", Path(__file__).parent / "fake_triton.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.FakeTriton(*repository)
    sys.modules.pop("triton_python_backend_utils", None)
