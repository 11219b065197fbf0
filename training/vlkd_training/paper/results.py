"""Finished runs as files, and their numbers over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.paper.jobs import Job, Row

__all__ = ["Cell", "Results", "result_file"]

_KEYS = ("name", "seed", "steps", "scores", "losses", "seconds")


def result_file(work: Path, job: Job) -> Path:
    """Where a finished run lies."""
    return work / "runs" / f"{job.slug}.json"


@dataclass(frozen=True)
class Cell:
    """One number over seeds.

    Attributes:
        values: seed -> number.
    """

    values: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds; NaN without any."""
        return statistics.fmean(self.values.values()) if self.values else math.nan

    @property
    def spread(self) -> float | None:
        """Standard deviation between seeds; None with fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    def minus(self, other: Cell) -> dict[int, float]:
        """Differences seed by seed, where both have it."""
        return {seed: value - other.values[seed] for seed, value in self.values.items() if seed in other.values}


class Results:
    """Every finished run of a work folder.

    Args:
        runs: what their JSON files hold.

    Raises:
        DataError: two files hold the same run.
    """

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        self.runs: dict[str, dict[int, dict[str, Any]]] = {}
        for run in runs:
            seeds = self.runs.setdefault(run["name"], {})
            if run["seed"] in seeds:
                raise DataError(f"Two files hold the run {run['name']} of seed {run['seed']}; delete one.")
            seeds[run["seed"]] = run

    @classmethod
    def read(cls, work: Path) -> Results:
        """Read ``work/runs/*.json``.

        Raises:
            DataError: there is none, or one is no finished run.
        """
        files = sorted((work / "runs").glob("*.json"))
        if not files:
            raise DataError(f"{work / 'runs'} holds no finished run; run the ladder first, without --report.")
        return cls([_read(file) for file in files])

    def cell(self, row: Row, measure: str) -> Cell:
        """The number of a row, by seed; seeds whose run lacks it are left out."""
        key = row.keys.get(measure, measure)
        found = self.runs.get(row.run, {})
        return Cell({seed: float(run["scores"][key]) for seed, run in sorted(found.items()) if key in run["scores"]})

    def seeds(self, row: Row) -> list[int]:
        """Seeds that a row has."""
        return sorted(self.runs.get(row.run, {}))


def _read(file: Path) -> dict[str, Any]:
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in _KEYS if key not in run]
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} is no finished run ({error}); delete it, and the run is done again.") from error
    if missing:
        raise DataError(f"{file} is no finished run: it lacks {', '.join(missing)}; delete it, and it is done again.")
    return dict(run)
