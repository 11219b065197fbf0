"""What a student answers, in points: measured by an evaluator that another package registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

from vlkd_export.quantize.settings import METRICS, QuantizeSettings
from vlkd_hub.errors import DataError, MissingDependencyError
from vlkd_hub.runtime import OnnxStudent

__all__ = ["Scorer", "Scores", "excess", "lost_points", "measurable", "open_scorer"]

GROUP = "vlkd.evaluators"
NAME = "tasks"

Scores = dict[str, float]
"""Measure -> points, higher is better."""


class Scorer(Protocol):
    """One split, ready to score students. The package of the entry point reads the data and knows the measures."""

    @property
    def tasks(self) -> Sequence[str]:
        """The tasks that the split has data for: ``retrieval``, ``caption``, ``vqa``."""

    def __call__(self, student: OnnxStudent, tasks: Sequence[str]) -> Scores:
        """Scores of ``student``."""


def open_scorer(data: str, split: str) -> Scorer:
    """Open a split for scoring.

    Raises:
        DataError: there is no such data.
        MissingDependencyError: no evaluator is installed, or it lacks a package.
    """
    found = next(iter(entry_points(group=GROUP, name=NAME)), None)
    if found is None:
        raise MissingDependencyError(
            f"Task metrics decide what may be quantized, and no evaluator is registered under {GROUP!r}. "
            'Run: pip install "vlkd-hub[train]"'
        )
    try:
        make: Callable[[str, str], Any] = found.load()
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f'Measuring on {data} needs the package {error.name!r}. Run: pip install "vlkd-hub[train]"'
        ) from error
    scorer: Scorer = make(data, split)
    return scorer


def measurable(settings: QuantizeSettings, scorer: Scorer, generates: bool) -> tuple[dict[str, float], list[str]]:
    """The limits that can be measured here, and the measures that cannot.

    Args:
        settings: with ``max_drop``.
        scorer: of the split.
        generates: whether the bundle writes texts.

    Raises:
        DataError: none of them can be measured.
    """
    here = set(scorer.tasks) if generates else set(scorer.tasks) & {"retrieval"}
    limits = {name: points for name, points in settings.max_drop.items() if METRICS[name] in here}
    if not limits:
        raise DataError(
            f"{settings.data}, {settings.split}: nothing there measures {', '.join(settings.max_drop)} for this bundle."
        )
    return limits, [name for name in settings.max_drop if name not in limits]


def lost_points(baseline: Mapping[str, float], scores: Mapping[str, float]) -> Scores:
    """Points lost of each measure that both have; negative where it gained."""
    return {name: baseline[name] - scores[name] for name in baseline if name in scores}


def excess(lost: Mapping[str, float], limits: Mapping[str, float]) -> float:
    """By how much the worst measure is over its limit, in points; 0 where all are within."""
    # A limit of 0.5 is met by a loss of 0.5, whatever the last bit of a float says.
    return max(0.0, *(round(lost[name] - points, 6) for name, points in limits.items()))
