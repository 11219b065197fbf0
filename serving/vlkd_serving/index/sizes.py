"""Sizes in words: ``2GB``, ``512 MiB``."""

from __future__ import annotations

import re

from vlkd_hub.errors import InvalidInputError

__all__ = ["parse_size"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes of a size.

    Args:
        text: a number and a unit: ``kB``, ``MB``, ``GB`` are powers of 1000, ``KiB``, ``MiB``, ``GiB`` of 1024.

    Raises:
        InvalidInputError: not such a text, or nothing.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"{text!r} is not a size; write for example 2GB or 512MiB.")
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2].lower()])
    if size < 1:
        raise InvalidInputError(f"A size must be above 0, got {text!r}.")
    return size
