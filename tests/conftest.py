"""What every test gets: no network, two torch threads, and the real data where it lies beside the repository."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

# Before anything imports huggingface_hub or a numerical library.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

ROOT = Path(__file__).resolve().parent.parent
TORCH_THREADS = 2


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold torch to two threads, in whichever test imports it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != TORCH_THREADS:
        torch.set_num_threads(TORCH_THREADS)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and words; it is not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip("the real data is not here: expected ../shared/data beside the repository")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of an installed chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium on the PATH; install it with: apt-get install chromium")


@pytest.fixture
def seeded() -> None:
    """Seed Python, numpy and torch."""
    import random

    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
