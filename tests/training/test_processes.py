"""Two processes train what one process with the doubled batch trains; torchrun and accelerate, CPU and gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).with_name("process_worker.py")
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]


def train(launcher: list[str], *arguments: Any, output: Path) -> dict[str, Any]:
    """Run the worker and read what it ended with."""
    output.mkdir()
    student, *rest = (str(item) for item in arguments)
    line = [sys.executable, *launcher, str(WORKER), student, str(output), *rest]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(output / "end.pt", weights_only=True)


def train_by_accelerate(*arguments: Any, output: Path) -> dict[str, Any]:
    """As :func:`train` on two processes; `accelerate launch` starts one of them a call where there is no MPI."""
    output.mkdir()
    student, *rest = (str(item) for item in arguments)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = ["--cpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", port]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    line = [sys.executable, "-m", "accelerate.commands.launch", *options, str(WORKER), student, str(output), *rest]
    running = []
    for rank in "01":
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        running.append(subprocess.Popen(line, env={**os.environ, **place}, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, said = process.communicate(timeout=500)
        assert process.returncode == 0, said[-3000:]
    return torch.load(output / "end.pt", weights_only=True)


def assert_same(two: dict[str, Any], one: dict[str, Any]) -> None:
    """Parameters to 1e-5, and the logged parts, which are means over both processes."""
    assert (two["world"], one["world"]) == (2, 1)
    for name, value in one["parameters"].items():
        torch.testing.assert_close(two["parameters"][name], value, atol=1e-5, rtol=0, msg=lambda text, n=name: n + text)
    assert len(two["losses"]) == len(one["losses"]) == 3
    for ours, theirs in zip(two["losses"], one["losses"], strict=True):
        for name in (key for key in theirs if key.startswith("loss/")):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4), name


@pytest.mark.parametrize(
    ("method", "launcher", "chunk"),
    [("vlkd", TORCHRUN, 0), ("align", TORCHRUN, 0), ("itcl", TORCHRUN, 1)],
    ids=["vlkd-torchrun", "align-torchrun", "itcl-chunked-torchrun"],
)
def test_two_processes_train_as_one_with_the_doubled_batch(
    tiny_student: Path, tmp_path: Path, method: str, launcher: list[str], chunk: int
) -> None:
    """fp32, no dropout, SGD (Adam would blow up rounding where a gradient is zero): only the exchange can differ.

    The contrast must see the other process's rows, and the gradient must reach them.
    """
    two = train(launcher, tiny_student, method, 2, chunk, output=tmp_path / "two")
    one = train([], tiny_student, method, 4, 0, output=tmp_path / "one")
    assert_same(two, one)


def test_accelerate_launch_starts_the_same(tiny_student: Path, tmp_path: Path) -> None:
    """On a machine without accelerators, with gloo: what docs/training.md tells."""
    two = train_by_accelerate(tiny_student, "vlkd", 2, 0, output=tmp_path / "two")
    assert_same(two, train([], tiny_student, "vlkd", 4, 0, output=tmp_path / "one"))


LEAVING = """
import atexit, sys
import torch.distributed as dist
from vlkd_training.processes import leave_at_exit

dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
atexit.register(lambda: print("in a group:", dist.is_initialized()))  # runs after what is registered later
leave_at_exit()
if sys.argv[2] == "fails":
    raise RuntimeError
"""


@pytest.mark.parametrize(("how", "left"), [("well", True), ("fails", False)])
def test_a_process_leaves_its_group_at_the_end(how: str, left: bool, tmp_path: Path) -> None:
    """Else its threads may abort it after all is saved; after an error others may be waiting in the group."""
    line = [sys.executable, "-c", LEAVING, str(tmp_path / "store"), how]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == f"in a group: {not left}", done.stderr[-2000:]
