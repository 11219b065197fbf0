"""The search keeps its limits, whatever the graphs do: students and scores are stand-ins here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from vlkd_export.quantize.autopilot import Autopilot, in_order
from vlkd_export.quantize.graph import Group
from vlkd_export.quantize.workshop import FP32, Choice, Timed

HARM = {
    ("image_encoder", "static"): {"early": 3.0, "middle": 0.2, "late": 0.1},
    ("image_encoder", "weights"): {"early": 0.1, "middle": 0.0, "late": 0.0},
    ("image_encoder", "slow"): {"early": 0.0, "middle": 1.0, "late": 0.0},
    ("text_encoder", "dynamic"): {"all": 0.3},
    ("decoder", "dynamic"): {"all": 0.3},
}
"""Points of R@10 that each group costs."""


class FakeWorkshop:
    """Students are their plans."""

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self.names = groups

    def student(self, plan: dict[str, Choice]) -> dict[str, Choice]:
        return plan

    def groups(self, graph: str) -> list[Group]:
        return [Group(name=name, nodes=(name,)) for name in self.names[graph]]

    def close(self, keep: dict[str, Choice]) -> None:
        pass


class FakeScorer:
    """R@10 falls by the harm of every group that is not put back; CIDEr by twice that of the decoder."""

    tasks = ("retrieval", "caption")

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, student: Any, tasks: Sequence[str]) -> dict[str, float]:
        self.asked.append(tuple(tasks))
        harm = {"decoder": 0.0}
        for graph, choice in student.items():
            parts = HARM.get((graph, choice.method), {})
            harm[graph] = sum(points for name, points in parts.items() if name not in choice.put_back)
        search = sum(points for graph, points in harm.items() if graph != "decoder")
        scores = {"r@10": 80.0 - search, "cider": 60.0 - 2 * harm["decoder"]}
        wanted = {"r@10": "retrieval", "cider": "caption"}
        return {name: value for name, value in scores.items() if wanted[name] in tasks}


def timed(method: str, ms: float, error: float = 0.0) -> Timed:
    """A way of a graph that takes 10 ms in fp32."""
    times, fp32 = {1: ms, 8: ms}, {1: 10.0, 8: 10.0}
    return Timed(choice=Choice(method=method), ms=times, fp32_ms=fp32, bytes=1, error=error)


def pilot(limits: dict[str, float], candidates: dict[str, list[Timed]], max_trials: int = 40) -> Autopilot:
    """With three groups in the image tower and one in the others."""
    groups = {"image_encoder": ["early", "middle", "late"], "text_encoder": ["all"], "decoder": ["all"]}
    return Autopilot(FakeWorkshop(groups), FakeScorer(), limits, candidates, max_trials)  # type: ignore[arg-type]


def test_the_fastest_that_is_within_its_limits() -> None:
    """Not the fastest: static loses 3.3 points."""
    ways = {"image_encoder": [timed("static", 2.0), timed("weights", 3.0)]}
    found = pilot({"r@10": 0.5, "cider": 1.0}, ways)
    assert found.search() == {"image_encoder": Choice(method="weights")}
    assert found.result.excess == 0 and found.result.lost["r@10"] == pytest.approx(0.1)


def test_the_most_harmful_group_goes_back_first() -> None:
    """With no other way left: one group in fp32 and two in int8, not the whole tower."""
    found = pilot({"r@10": 0.5}, {"image_encoder": [timed("static", 2.0)]})
    assert found.search() == {"image_encoder": Choice(method="static", put_back=("early",))}
    assert found.result.lost["r@10"] == pytest.approx(0.3)


def test_more_groups_go_back_until_it_is_within() -> None:
    """In the order of their harm."""
    found = pilot({"r@10": 0.15}, {"image_encoder": [timed("static", 2.0)]})
    assert found.search() == {"image_encoder": Choice(method="static", put_back=("early", "middle"))}


def test_alone_within_and_together_over() -> None:
    """Two towers that each lose 0.3 lose 0.6: one of them must give."""
    ways = {"image_encoder": [timed("weights", 3.0)], "text_encoder": [timed("dynamic", 4.0)]}
    found = pilot({"r@10": 0.35}, ways)
    plan = found.search()
    assert plan == {"image_encoder": Choice(method="weights"), "text_encoder": FP32}
    assert found.result.excess == 0


def test_a_graph_without_part_in_a_measure_is_not_scored_on_it() -> None:
    """No search vector passes through the decoder: minutes saved."""
    found = pilot({"r@10": 0.5, "cider": 1.0}, {"decoder": [timed("dynamic", 4.0)]})
    found.search()
    scorer: Any = found.scorer
    assert scorer.asked == [("retrieval", "caption"), ("caption",), ("retrieval", "caption")]


def test_out_of_trials_it_gives_whole_graphs_back() -> None:
    """Still within its limits: that is the one promise."""
    ways = {"image_encoder": [timed("static", 2.0)], "text_encoder": [timed("dynamic", 4.0)]}
    found = pilot({"r@10": 0.0}, ways, max_trials=3)
    assert found.search() == {"image_encoder": FP32, "text_encoder": FP32}
    assert found.result.excess == 0 and len(found.trials) <= 7


def test_fp32_as_the_fastest_is_taken_without_a_score() -> None:
    """Nothing can be lost by it."""
    found = pilot({"r@10": 0.5}, {"image_encoder": [timed("fp32", 10.0), timed("static", 12.0)]})
    assert found.search() == {"image_encoder": FP32}
    assert [trial.why for trial in found.trials] == ["fp32", "all together"]


def test_time_relative_to_fp32_and_where_it_is_slower() -> None:
    """The mean is geometric: twice as fast here and twice as slow there is no gain."""
    both = Timed(choice=FP32, ms={1: 5.0, 8: 40.0}, fp32_ms={1: 10.0, 8: 20.0}, bytes=1)
    assert both.relative == pytest.approx(1.0)
    assert both.slower_at == [8]


def test_fewer_bits_first_then_half_the_bytes_then_what_is_slower() -> None:
    """static loses too much; weights in float16 lose nothing and are tried before a way that is slower than fp32."""
    ways = {"image_encoder": [timed("weights16", 1.0), timed("slow", 12.0), timed("static", 4.0)]}
    found = pilot({"r@10": 0.5}, ways)
    assert found.search() == {"image_encoder": Choice(method="weights16")}
    assert [trial.plan["image_encoder"].method for trial in found.trials[1:3]] == ["static", "weights16"]


@pytest.mark.parametrize(
    ("ms", "error", "first"),
    [(5.0, 0.002, "weights"), (5.0, 0.0015, "dynamic"), (4.0, 0.02, "dynamic"), (5.0, 0.0, "dynamic")],
    ids=["far nearer", "somewhat nearer", "far slower", "exact"],
)
def test_of_two_about_as_fast_the_far_nearer_comes_first(ms: float, error: float, first: str) -> None:
    """Scores of a small split may hide a loss; the error of the outputs does not."""
    ways = [timed("dynamic", ms, error), timed("weights", 6.0, 0.001), timed("weights16", 4.0, 0.0)]
    order = [way.choice.method for way in in_order(ways)]
    assert order[0] == first and sorted(order[:2]) == ["dynamic", "weights"] and order[2] == "weights16"


def test_a_slower_way_is_no_lesser_evil() -> None:
    """slow loses less than static, 1.0 against 3.3; what goes on is static, group by group."""
    found = pilot({"r@10": 0.5}, {"image_encoder": [timed("static", 2.0), timed("slow", 12.0)]})
    assert found.search() == {"image_encoder": Choice(method="static", put_back=("early",))}
