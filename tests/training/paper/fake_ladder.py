"""A ladder that trains nothing, for the tests of what runs ladders."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlkd_training.paper.jobs import Comparison, Job, Measure, Row, Tell

__all__ = ["FakeLadder", "MeetingLadder"]


class FakeLadder:
    """``base``, then ``left`` and ``right`` from it; the score of a run is 10, 8 or 12, plus its seed."""

    name, title, about = "fake", "A fake paper", "Nothing is trained."
    values = {"base": 10.0, "left": 8.0, "right": 12.0}

    def __init__(self) -> None:
        self.done: list[str] = []
        self.folders: list[Path] = []
        self.break_at = ""
        self.setting = 1

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        found = []
        for seed in seeds:
            for name in self.values:
                after = () if name == "base" else (f"base@{seed}",)
                found.append(Job(name=name, kind="fake", data="none", seed=seed, steps=3, seconds=60.0, after=after))
        return found

    def facts(self, job: Job) -> dict[str, Any]:
        return {"setting": self.setting}

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        self.folders.append(folder)
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            checkpoint.write_text("half")
            if self.break_at == job.id:
                raise KeyboardInterrupt
        print("a line of a run")
        tell(1.0)
        self.done.append(job.id)
        value = self.values[job.name] + job.seed
        return {"scores": {"score": value, "guess": 1.0}, "losses": {"part": [[1, 2.0], [2, value]]}}

    def comparisons(self) -> tuple[Comparison, ...]:
        rows = (
            Row(title="whole", run="base", paper={"score": 50.0}),
            Row(title="less", run="left", paper={"score": 40.0}),
            Row(title="more", run="right", paper={"score": 45.0}),
        )
        measures = (Measure(key="score", title="Score", guess="guess"),)
        return (Comparison(name="one", title="One", source="Table 1", note="Note.", measures=measures, rows=rows),)


class MeetingLadder(FakeLadder):
    """For workers: ``left`` and ``right`` of a seed wait until both have begun, and look for what they start from.

    Args:
        meeting: an empty folder, where each run leaves a file when it begins.
        dies: id of the run that ends its process.
        fails: id of the run that raises.
    """

    def __init__(self, meeting: Path, dies: str = "", fails: str = "") -> None:
        super().__init__()
        self.meeting, self.dies, self.fails = meeting, dies, fails

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        """Do nothing, but at the same time as another."""
        if job.id == self.fails:
            raise ValueError("a run that fails")
        if job.id == self.dies:
            os._exit(1)
        for before in job.after:
            assert (folder.parent.parent / "runs" / f"{before}.json").is_file()
            (self.meeting / job.id).touch()
            until = time.monotonic() + 60
            while len(list(self.meeting.glob(f"*@{job.seed}"))) < 2:
                assert time.monotonic() < until, "alone"
                time.sleep(0.01)
        return super().run(job, folder, tell)
