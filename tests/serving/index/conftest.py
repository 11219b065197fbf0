"""The workload and the failing disks, as modules; how long the long tests run."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _module(name: str) -> ModuleType:
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"index_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def workload() -> ModuleType:
    """Changes, the contents they lead through, and a check of what is on the disk."""
    return _module("workload")


@pytest.fixture(scope="session")
def disks() -> ModuleType:
    """Disks that kill, fail or forget."""
    return _module("disks")


@pytest.fixture(scope="session")
def nightly() -> bool:
    """Whether the long forms run: ``make nightly`` sets VLKD_NIGHTLY=1."""
    return os.environ.get("VLKD_NIGHTLY") == "1"
