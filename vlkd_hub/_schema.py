"""Build a dataclass from parsed JSON, refusing whatever the dataclass does not say."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

__all__ = ["strict_dataclass"]

T = TypeVar("T")


def strict_dataclass(cls: type[T], data: object, where: str) -> T:
    """Build ``cls`` from a JSON object.

    Understands the types that JSON can hold: str, int, float, bool, ``X | None``, ``dict[str, X]``, ``list[X]``,
    ``Any`` and other dataclasses.

    Args:
        cls: a dataclass.
        data: what ``json.loads`` returned.
        where: how messages name this object, for example ``"manifest.json"``.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object, found {_name(data)}")
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(data.keys() - known.keys())
    if unknown:
        raise ValueError(f"{where}: unknown field {', '.join(map(repr, unknown))}")
    required = {n for n, item in known.items() if item.default is MISSING and item.default_factory is MISSING}
    missing = sorted(required - data.keys())
    if missing:
        raise ValueError(f"{where}: missing field {', '.join(map(repr, missing))}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):  # X | None
        (inner,) = set(arguments) - {types.NoneType}
        return None if value is None else _value(inner, value, where)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if is_dataclass(hint):
        return strict_dataclass(typing.cast(type, hint), value, where)
    # In Python True is an int; in a manifest it is not.
    fits = type(value) is hint or (hint is float and type(value) is int)
    if not fits:
        expected = getattr(origin or hint, "__name__", str(hint))
        raise ValueError(f"{where}: expected {expected}, found {_name(value)}")
    return value


def _name(value: object) -> str:
    return "null" if value is None else type(value).__name__
