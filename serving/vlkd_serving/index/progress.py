"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress", "no_progress"]

Progress: TypeAlias = Callable[[str, int], None]
"""Called with a step's name and the number of rows done since the last call."""


def no_progress(step: str, rows: int) -> None:
    """Say nothing."""
