"""What a ladder is: runs, and the comparisons that are read from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Comparison", "Job", "Ladder", "Measure", "Row", "Tell"]

Tell = Callable[[float], None]
"""Called with the part of a run that is done, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run.

    Attributes:
        name: the same for every seed, for example ``"scenes/without-ttdm"``.
        kind: what the ladder does for it.
        data: name of the data set.
        seed: of weights, batches and subsets.
        steps: optimizer steps; 0 where nothing is trained. Never seconds: a busy machine must not train less.
        seconds: what it takes on two quiet cores, for the plan and the bar.
        changes: what differs from the ladder's own settings.
        after: names of the runs whose result it starts from, as :attr:`id` gives them.
    """

    name: str
    kind: str
    data: str
    seed: int
    steps: int
    seconds: float
    changes: dict[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Name and seed: unique in a ladder."""
        return f"{self.name}@{self.seed}"

    @property
    def slug(self) -> str:
        """:attr:`id` as a file name."""
        return self.id.replace("/", "--")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of a run's ``scores``.

    Attributes:
        key: its name there.
        title: head of its column.
        guess: key of what one gets without looking at the picture, shown below the table; "" for none.
    """

    key: str
    title: str
    guess: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        title: what was done.
        run: name of the runs it is read from.
        paper: the paper's number by measure; absent where the paper has none.
        keys: measure -> another key of ``scores`` to read in its place.
    """

    title: str
    run: str
    paper: dict[str, float] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table: rows that had the same budget, and the row that the others are held against.

    Attributes:
        name: for file names and ``--only``'s help.
        title: heading.
        source: table of the paper.
        note: what the reader must know before the numbers.
        measures: columns.
        rows: lines; the first is the reference.
    """

    name: str
    title: str
    source: str
    note: str
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]


class Ladder(Protocol):
    """One paper: which runs, how to do one, and which tables they fill."""

    name: str
    title: str
    about: str
    """Sentences for the head of the report: data, models, budgets."""

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        """Every run, in the order to do them: all comparisons with the first seed come before the second seed."""

    def facts(self, job: Job) -> dict[str, Any]:
        """What the result of a run depends on, JSON-like; a finished run of other facts is not taken for this one."""

    def run(self, job: Job, folder: Path, tell: Tell) -> dict[str, Any]:
        """Do one run, from where an interrupted one left ``folder``.

        Returns:
            ``scores`` (name -> number), ``losses`` (part -> list of [step, value]), and what else is worth keeping.
        """

    def comparisons(self) -> tuple[Comparison, ...]:
        """The tables."""
