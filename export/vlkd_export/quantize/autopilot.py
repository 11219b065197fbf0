"""Chooses how each graph is written: the fastest that loses no more than allowed of what the student answers.

First each graph alone, its ways from the fastest on (of two about as fast, the one whose outputs are far nearer to
fp32's), those in fewer bits before those that only halve the bytes, and what is slower than fp32 last. Then all
together; if that loses too much, groups of nodes of the most harmful graph go back to fp32, the most harmful first,
until the loss is within its limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vlkd_export.quantize.metrics import Scorer, Scores, excess, lost_points
from vlkd_export.quantize.settings import METRICS
from vlkd_export.quantize.workshop import FP32, Choice, Plan, Timed, Workshop

__all__ = ["Autopilot", "Trial"]

SLOWER = 1.05
"""Times fp32 from which on a way counts as slower; less is noise."""
ABOUT_AS_FAST = 1.4
FAR_NEARER = 2.0
"""A way yields to one that takes at most so many times as long, and whose error is at most one part in so many.

A split of some hundred pictures cannot tell a harmless error from one that costs a point: one picture may be half a
point. The error of the outputs is not subject to that chance.
"""
WRITERS = ("cross_attention", "decoder")
"""Graphs that no search vector passes through."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One evaluation."""

    why: str
    plan: Plan
    scores: Scores
    lost: Scores
    excess: float
    """Points over the limit of the worst measure; 0 is within."""


@dataclass
class Autopilot:
    """The search.

    Attributes:
        workshop: makes the students.
        scorer: of the split that is decided on.
        limits: measure -> points that may be lost.
        candidates: graph -> its ways with their times.
        max_trials: evaluations after which whole graphs go back to fp32 instead of groups.
        say: told each step.
    """

    workshop: Workshop
    scorer: Scorer
    limits: Mapping[str, float]
    candidates: Mapping[str, list[Timed]]
    max_trials: int
    say: Say = lambda line: None
    trials: list[Trial] = field(default_factory=list)
    failed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Graph -> way -> why it cannot be used here."""
    chosen: dict[str, Timed] = field(default_factory=dict)
    """Graph -> its final choice, timed again."""
    result: Trial = field(init=False)
    """The trial of the plan that :meth:`search` found."""

    def __post_init__(self) -> None:
        self.say("scoring fp32")
        self.baseline = self._score({}, self.limits)
        self.result = self._try("fp32", {}, self.limits)

    @property
    def plan(self) -> Plan:
        """The choice of every graph, after :meth:`search`."""
        return {graph: item.choice for graph, item in self.chosen.items()}

    def search(self) -> Plan:
        """The plan, within the limits: at worst all of it is fp32."""
        harm: dict[str, float] = {}
        plan: Plan = {}
        for graph, timed in self.candidates.items():
            plan[graph], harm[graph] = self._alone(graph, in_order(timed))
            self.workshop.close(plan)
        trial = self._try("all together", plan, self.limits)
        for graph in sorted(harm, key=lambda name: -harm[name]):
            if trial.excess == 0:
                break
            trial = self._put_back(graph, trial)
        self.result = trial
        return trial.plan

    def _alone(self, graph: str, ways: list[Timed]) -> tuple[Choice, float]:
        """The first way within the limits while all else is fp32, or the least harmful; with its harm.

        A way that is slower than fp32 is never the lesser evil of a faster one: fp32 would be better than both.
        """
        limits = {n: p for n, p in self.limits.items() if graph not in WRITERS or METRICS[n] != "retrieval"}
        tried: list[tuple[float, Choice, float]] = []
        fast = any(way.relative <= SLOWER for way in ways)
        for way in ways:
            choice = way.choice
            if tried and fast and way.relative > SLOWER:
                break
            if choice == FP32 or not limits:
                return choice, 0.0
            trial = self._try(f"{graph} alone", {graph: choice}, limits)
            tried.append((trial.excess, choice, self._harm(trial.lost)))
            if trial.excess == 0 or len(self.trials) >= self.max_trials:
                break
        _, choice, harm = min(tried, key=lambda item: item[0])
        return choice, harm

    def _put_back(self, graph: str, trial: Trial) -> Trial:
        """Groups of ``graph`` back to fp32, the most harmful first, until ``trial`` is within or none is left."""
        plan = trial.plan
        names = [group.name for group in self.workshop.groups(graph)]
        room = len(self.trials) + len(names) < self.max_trials
        if plan[graph].method not in ("fp32", "weights16") and len(names) > 1 and room:
            without = {
                name: self._try(f"{graph} without {name}", plan | {graph: _with(plan[graph], (name,))}, self.limits)
                for name in names
            }
            order = sorted(names, key=lambda name: (without[name].excess, self._harm(without[name].lost)))
            trial = without[order[0]]
            for count in range(2, len(order)):
                if trial.excess == 0 or len(self.trials) >= self.max_trials:
                    break
                choice = _with(plan[graph], tuple(order[:count]))
                trial = self._try(f"{graph} without {count} groups", plan | {graph: choice}, self.limits)
        if trial.excess > 0:
            trial = self._try(f"{graph} in fp32", plan | {graph: FP32}, self.limits)
        return trial

    def _try(self, why: str, plan: Plan, limits: Mapping[str, float]) -> Trial:
        scores = self.baseline if not plan else self._score(plan, limits)
        lost = lost_points(self.baseline, scores)
        trial = Trial(why=why, plan=dict(plan), scores=scores, lost=lost, excess=excess(lost, limits))
        self.trials.append(trial)
        words = ", ".join(f"{name} {-lost[name]:+.2f}" for name in limits)
        self.say(f"{why}: {', '.join(map(str, plan.values()))}: {words}")
        return trial

    def _score(self, plan: Plan, limits: Mapping[str, float]) -> Scores:
        tasks = tuple(dict.fromkeys(METRICS[name] for name in limits))
        return self.scorer(self.workshop.student(plan), tasks)

    def _harm(self, lost: Scores) -> float:
        """Losses relative to their limits, added up; a gain of one measure pays for no loss of another."""
        return sum(max(0.0, lost.get(name, 0.0)) / max(points, 0.1) for name, points in self.limits.items())


def in_order(ways: Sequence[Timed]) -> list[Timed]:
    """The order in which ways of one graph are tried, from the one that is wanted most."""
    halves = {"weights16"} if any(way.choice.method not in ("fp32", "fp16", "weights16") for way in ways) else set()
    fp32 = any(way.choice == FP32 for way in ways)  # then speed alone decides

    def rank(way: Timed) -> tuple[bool, bool]:
        return way.relative > SLOWER, not fp32 and way.choice.method in halves

    left, order = sorted(ways, key=lambda way: (*rank(way), way.relative)), []
    while left:
        first = left[0]
        nearer = [way for way in left[1:] if rank(way) == rank(first) and _outdoes(way, first)]
        order.append(nearer[0] if nearer and not fp32 else first)
        left.remove(order[-1])
    return order


def _outdoes(way: Timed, faster: Timed) -> bool:
    return way.relative <= ABOUT_AS_FAST * faster.relative and way.error * FAR_NEARER <= faster.error


def _with(choice: Choice, put_back: tuple[str, ...]) -> Choice:
    return Choice(method=choice.method, provider=choice.provider, put_back=put_back)
