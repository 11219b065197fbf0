"""Two processes train an S-SMKE student as one with the doubled batch does; torchrun, CPU and gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).with_name("smke_worker.py")
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]
VARIANTS = ("shre-mlp", "fifo", "momentum", "contrastive-bank")


def train(launcher: list[str], batch: int, output: Path) -> dict[str, dict[str, Any]]:
    """Run the worker on every variant and read what each ended with."""
    output.mkdir()
    line = [sys.executable, *launcher, str(WORKER), str(output), str(batch), *VARIANTS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {variant: torch.load(output / f"{variant}.pt", weights_only=True) for variant in VARIANTS}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("smke-processes")
    return train(TORCHRUN, 2, folder / "two"), train([], 4, folder / "one")


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_as_one_with_the_doubled_batch(ends: Any, variant: str) -> None:
    """fp32, no dropout, no BatchNorm, SGD: losses, weights, banks and momentum averages to 1e-5.

    The contrast must see the other process's rows and send their gradient back, a bank must hold the rows of both in
    their order, and the momentum encoder must move alike. Image-text matching draws its negatives in each process and
    is not in this list.
    """
    two, one = ends[0][variant], ends[1][variant]
    assert (two["world"], one["world"]) == (2, 1)
    assert two["state"].keys() == one["state"].keys()
    for name, value in one["state"].items():
        torch.testing.assert_close(
            two["state"][name].double(), value.double(), atol=1e-5, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert len(two["losses"]) == len(one["losses"]) == 3
    for ours, theirs in zip(two["losses"], one["losses"], strict=True):
        for name in (key for key in theirs if key.startswith("loss/")):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5, rel=1e-5), name
