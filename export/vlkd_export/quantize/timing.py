"""Milliseconds of several ways to do one thing, taken in turns, so that all meet the same weather."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["load_average", "median_times"]

WARM_UP = 2


def median_times(ways: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """Run every way in turns and return the median of each.

    Args:
        ways: name -> something to call.
        runs: timed calls of each.

    Returns:
        Name -> milliseconds.
    """
    for _ in range(WARM_UP):
        for way in ways.values():
            way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def load_average() -> list[float] | None:
    """Of the machine over 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
