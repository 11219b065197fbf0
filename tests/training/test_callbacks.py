"""Checkpoints by the clock: often enough, and in several processes at the same step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from vlkd_training.callbacks import TimedCheckpoints


def saves(every_s: float, *, strategy: str = "no", world: int = 1, steps: int = 4, last: float = -1e9) -> list[int]:
    """The steps of a run at which it saves; the clock was last looked at long ago."""
    args: Any = SimpleNamespace(checkpoint_every_s=every_s, save_strategy=strategy, world_size=world, device="cpu")
    timed, found = TimedCheckpoints(args), []
    timed.last = last
    for step in range(1, steps + 1):
        control = TrainerControl()
        timed.on_step_end(args, TrainerState(global_step=step, max_steps=steps), control)
        if control.should_save:
            found.append(step)
    return found


@pytest.mark.parametrize(
    ("every_s", "strategy", "expected"),
    [(60.0, "no", [1]), (1e-9, "no", [1, 2, 3]), (0.0, "no", []), (1e-9, "steps", [])],
)
def test_one_process_saves_by_its_clock(every_s: float, strategy: str, expected: list[int]) -> None:
    """Not at the last step, whose weights are saved anyway, and not where the recipe saves by itself."""
    assert saves(every_s, strategy=strategy) == expected


WORKER = """
import sys
import torch.distributed as dist
sys.path.insert(0, sys.argv[3])
from training.test_callbacks import saves
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
print(saves(60.0, world=2, steps=30, last=-1e9 if rank == 0 else 1e9))
dist.destroy_process_group()
"""


def test_several_processes_save_at_the_first_ones_word(tmp_path: Path) -> None:
    """The clock of the second says never; a checkpoint that one of them alone makes would wait for ever."""
    tests = str(Path(__file__).parent.parent)
    line = [sys.executable, "-c", WORKER, str(tmp_path / "store")]
    running = [
        subprocess.Popen([*line, rank, tests], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    for process in running:
        said, error = process.communicate(timeout=200)
        assert said.strip() == "[8]", error[-2000:]
