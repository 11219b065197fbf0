"""Optimisation profiles: what they hold, how they come from recorded calls, and what is refused."""

from __future__ import annotations

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.tensorrt.profiles import (
    ShapeRange,
    check_shapes,
    profile_from_json,
    profile_from_shapes,
    profile_to_json,
)

RANGE = ShapeRange((1, 3), (4, 3), (8, 3))


@pytest.mark.parametrize("shape", [(1, 3), (8, 3), (5, 3)])
def test_holds(shape: tuple[int, ...]) -> None:
    assert RANGE.holds(shape)


@pytest.mark.parametrize("shape", [(9, 3), (0, 3), (4, 2), (4,), (4, 3, 1)])
def test_does_not_hold(shape: tuple[int, ...]) -> None:
    assert not RANGE.holds(shape)


@pytest.mark.parametrize(
    ("low", "usual", "high"), [((2,), (1,), (3,)), ((1,), (4,), (3,)), ((0,), (1,), (2,)), ((1,), (1, 1), (1,))]
)
def test_what_is_no_range(low: tuple[int, ...], usual: tuple[int, ...], high: tuple[int, ...]) -> None:
    """Zero among them: an engine tuned for nothing is a graph of its own."""
    with pytest.raises(InvalidInputError, match="profile"):
        ShapeRange(low, usual, high)


def test_from_recorded_calls() -> None:
    """Bounds by dimension, the tuning for the call that came most often as a whole."""
    calls = [{"a": (1, 7), "b": (1,)}, {"a": (2, 5), "b": (2,)}, {"a": (2, 5), "b": (2,)}, {"a": (6, 1), "b": (6,)}]
    profile = profile_from_shapes(calls)
    assert profile == {"a": ShapeRange((1, 1), (2, 5), (6, 7)), "b": ShapeRange((1,), (2,), (6,))}
    assert all(profile[name].holds(shape) for call in calls for name, shape in call.items())


def test_recordings_that_do_not_fit() -> None:
    with pytest.raises(InvalidInputError, match="No call"):
        profile_from_shapes([])
    with pytest.raises(InvalidInputError, match="one rank"):
        profile_from_shapes([{"a": (1, 2)}, {"a": (1,)}])
    with pytest.raises(InvalidInputError, match="'a'"):
        profile_from_shapes([{"a": (1, 2)}, {"b": (1, 2)}])


def test_a_call_outside_is_named() -> None:
    """The person learns the input, its limit and what came."""
    check_shapes({"a": RANGE}, {"a": (8, 3)}, "decoder")
    with pytest.raises(InvalidInputError, match=r"decoder was built for a from \(1, 3\) to \(8, 3\) and got \(9, 3\)"):
        check_shapes({"a": RANGE}, {"a": (9, 3)}, "decoder")
    with pytest.raises(InvalidInputError, match=r"takes \['a'\], got \['b'\]"):
        check_shapes({"a": RANGE}, {"b": (8, 3)}, "decoder")


def test_json_there_and_back() -> None:
    assert profile_from_json(profile_to_json({"a": RANGE})) == {"a": RANGE}
    assert str(RANGE) == "1x3/4x3/8x3"
    for wrong in ([], {"a": 3}, {"a": [[1], [2]]}, {"a": [["x"], [1], [1]]}):
        with pytest.raises(InvalidInputError, match="profile is written"):
            profile_from_json(wrong)
