"""Optimisation profiles: for which shapes of its inputs an engine is built, and for which it is tuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlkd_hub.errors import InvalidInputError

__all__ = [
    "Profile",
    "Shape",
    "ShapeRange",
    "check_shapes",
    "profile_from_json",
    "profile_from_shapes",
    "profile_to_json",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, most usual and largest shape of one input.

    Raises:
        InvalidInputError: the three differ in rank, are not in order, or hold a dimension below 1.
    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise InvalidInputError(f"The shapes of a profile must have one rank, got {self}.")
        for low, usual, high in zip(self.min, self.opt, self.max, strict=True):
            if not 1 <= low <= usual <= high:
                raise InvalidInputError(
                    f"A profile needs 1 <= min <= opt <= max in every dimension, got {self}. An input that may be "
                    "empty (a past of no token) is a graph of its own."
                )

    def __str__(self) -> str:
        return "/".join("x".join(map(str, shape)) for shape in (self.min, self.opt, self.max))

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether an engine built for this range takes ``shape``."""
        return len(shape) == len(self.min) and all(
            low <= have <= high for low, have, high in zip(self.min, shape, self.max, strict=True)
        )


Profile = Mapping[str, ShapeRange]
"""Name of the input -> its range. Inputs without a dynamic dimension stand in it too."""


def profile_from_shapes(shapes: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, ShapeRange]:
    """The profile that holds every recorded call, tuned for the shapes that came most often.

    Args:
        shapes: for each call the name and shape of every input.

    Raises:
        InvalidInputError: nothing was recorded, or the calls differ in their inputs or ranks.
    """
    if not shapes:
        raise InvalidInputError("No call was recorded, so there is no shape to build a profile from.")
    names = list(shapes[0])
    profile = {}
    for name in names:
        seen = [tuple(call[name]) for call in shapes if name in call]
        if len(seen) != len(shapes) or len({len(shape) for shape in seen}) != 1:
            raise InvalidInputError(f"The recorded calls do not all give {name!r} with one rank.")
        columns = list(zip(*seen, strict=True))
        # The most frequent whole call, so that dimensions that belong together (batch, context) stay together.
        usual = Counter(tuple(tuple(call[key]) for key in names) for call in shapes).most_common(1)[0][0]
        profile[name] = ShapeRange(tuple(map(min, columns)), usual[names.index(name)], tuple(map(max, columns)))
    return profile


def check_shapes(profile: Profile, shapes: Mapping[str, Sequence[int]], graph: str) -> None:
    """Refuse shapes that the engine was not built for.

    Raises:
        InvalidInputError: an input is missing, unknown or outside its range; the message names it.
    """
    if set(shapes) != set(profile):
        raise InvalidInputError(f"{graph} takes {sorted(profile)}, got {sorted(shapes)}.")
    for name, shape in shapes.items():
        if not profile[name].holds(shape):
            raise InvalidInputError(
                f"{graph} was built for {name} from {profile[name].min} to {profile[name].max} and got "
                f"{tuple(shape)}. Send less at once, or build the engine with a larger profile."
            )


def profile_to_json(profile: Profile) -> dict[str, list[list[int]]]:
    """``{input: [min, opt, max]}``."""
    return {name: [list(some.min), list(some.opt), list(some.max)] for name, some in sorted(profile.items())}


def profile_from_json(data: Any) -> dict[str, ShapeRange]:
    """Read what :func:`profile_to_json` wrote, or a person.

    Raises:
        InvalidInputError: it is not of that form.
    """
    try:
        return {
            str(name): ShapeRange(*(tuple(int(size) for size in shape) for shape in shapes))
            for name, shapes in data.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f'A profile is written {{"input": [[min shape], [opt shape], [max shape]]}}, got {data!r}.'
        ) from error
