"""A process killed while it saves leaves its last whole checkpoint, and the run goes on from that, to the bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("kill_worker.py")


def kill(student: Path, output: Path, points: list[str]) -> list[dict[str, Any]]:
    line = [sys.executable, str(WORKER), str(student), str(output), *points]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(text) for text in done.stdout.splitlines() if text.startswith('{"point"')]


def test_killed_three_times_while_saving(tiny_student: Path, tmp_path: Path) -> None:
    """Half of the weights written; every file written; the list of files written and the name not given."""
    for found in kill(tiny_student, tmp_path, ["weights", "listed", "renamed"]):
        assert found["left"] == ["checkpoint-2"], found
        assert found["picked"] == "checkpoint-2", found
        assert found["same"], found


@pytest.mark.slow
def test_killed_thirty_times_while_saving(
    tiny_student: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """SIGKILL at 30 random moments from the start of a save on; what is picked is whole each time."""
    rng = random.Random(0)
    points = [str(rng.randrange(120)) for _ in range(30)]
    found = kill(tiny_student, tmp_path, points)
    assert len(found) == 30
    for item in found:
        assert item["picked"] in ("checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"), item
        assert item["same"], item
    record_property("kills", len(found))
    record_property("within_the_first_save", sum(item["picked"] == "checkpoint-2" for item in found))
    assert any(item["picked"] == "checkpoint-2" for item in found), "no kill hit the save; the moments are too late"
