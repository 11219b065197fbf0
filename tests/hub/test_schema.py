"""JSON into a dataclass: what fits passes, everything else is refused and named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from vlkd_hub._schema import strict_dataclass


@dataclass
class Inner:
    count: int


@dataclass
class Outer:
    name: str
    ratio: float
    on: bool
    inner: Inner | None
    table: dict[str, Inner]
    steps: list[int]
    free: Any
    spare: dict[str, str] = field(default_factory=dict)


GOOD = {
    "name": "a",
    "ratio": 1,
    "on": True,
    "inner": {"count": 2},
    "table": {"x": {"count": 3}},
    "steps": [1, 2],
    "free": [None, {"anything": 1}],
}


def test_builds_every_kind_of_field() -> None:
    built = strict_dataclass(Outer, GOOD, "it")
    assert built == Outer("a", 1, True, Inner(2), {"x": Inner(3)}, [1, 2], [None, {"anything": 1}], {})
    assert strict_dataclass(Outer, GOOD | {"inner": None}, "it").inner is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "it: name: expected str, found int"),
        ({"ratio": "1"}, "it: ratio: expected float, found str"),
        ({"on": 1}, "it: on: expected bool, found int"),
        ({"inner": {"count": True}}, "it: inner: count: expected int, found bool"),
        ({"inner": {"count": 1.0}}, "it: inner: count: expected int, found float"),
        ({"inner": {}}, "it: inner: missing field 'count'"),
        ({"inner": 5}, "it: inner: expected an object, found int"),
        ({"table": {"x": None}}, r"it: table\['x'\]: expected an object, found null"),
        ({"table": []}, "it: table: expected dict, found list"),
        ({"steps": [1, "2"]}, r"it: steps\[1\]: expected int, found str"),
        ({"extra": 1}, "it: unknown field 'extra'"),
    ],
)
def test_refuses_and_says_where(change: dict[str, Any], message: str) -> None:
    """One wrong field each; the message leads to it."""
    with pytest.raises(ValueError, match=message):
        strict_dataclass(Outer, GOOD | change, "it")


def test_missing_fields_are_named_together() -> None:
    with pytest.raises(ValueError, match="it: missing field 'name', 'ratio'"):
        strict_dataclass(Outer, {k: v for k, v in GOOD.items() if k not in ("name", "ratio")}, "it")
