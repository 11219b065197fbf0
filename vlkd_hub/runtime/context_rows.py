"""Keys and values of what a decoder looks at: rows that come and go while texts are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Context", "ContextRows", "gather_rows", "order_of_places", "pad_contexts"]

Context: TypeAlias = Sequence[NDArray[np.float32]]
"""What a decoder looks at: the states of a picture, of a prompt, or of several, ``(tokens, width)`` each, in order."""

ROOM = 32
"""Rows that arrays have room for when they grow the first time. Memory that no row was written to costs nothing."""
WIDE = 1.5
"""Arrays that are so many times as wide as their longest context are made anew when another one joins."""


class ContextRows:
    """One array a name, ``(rows, heads, tokens, width)``, and a mask of the tokens that are real, ``(rows, tokens)``.

    The arrays have room for more rows than are in use; a session is given views of the used ones. A row that ends
    leaves its place to another one, so that nothing but that row is copied.

    Args:
        names: of the arrays.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._arrays: list[NDArray[np.float32]] = []
        self._mask = np.zeros((0, 0), dtype=np.int64)
        self._numbers = np.zeros(0, dtype=np.int64)  # which context lies in each row
        self._added = 0

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        """What a session takes: ``context_mask`` and the arrays by name, used rows only."""
        used = len(self._numbers)
        rows = {name: array[:used] for name, array in zip(self._names, self._arrays, strict=True)}
        return {"context_mask": self._mask[:used], **rows}

    def add(self, arrays: Sequence[NDArray[np.float32]], mask: NDArray[np.int64]) -> None:
        """Add rows behind those that are there; shorter ones are padded.

        Args:
            arrays: in the order of the names, ``(new rows, heads, tokens, width)``.
            mask: 1 where they are real, ``(new rows, tokens)``.
        """
        used, count, tokens = len(self._numbers), *mask.shape
        self._numbers = np.concatenate([self._numbers, np.arange(self._added, self._added + count)])
        self._added += count
        if not used:
            self._arrays, self._mask = [np.require(array, requirements=["C", "W"]) for array in arrays], np.array(mask)
            return
        width = max(tokens, int(np.flatnonzero(self._mask[:used].any(axis=0))[-1]) + 1)
        room = len(self._mask)
        if used + count > room or not width <= self._mask.shape[1] < WIDE * width:
            self._resize(used, room if used + count <= room else max(2 * used, used + count, ROOM), width)
        new = slice(used, used + count)
        for array, part in zip(self._arrays, arrays, strict=True):
            array[new, :, :tokens] = part
            array[new, :, tokens:] = 0
        self._mask[new, :tokens] = mask
        self._mask[new, tokens:] = 0

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Let row ``i`` be what row ``rows[i]`` was; nothing is copied where rows keep their contexts."""
        numbers = self._numbers[rows]
        if not np.array_equal(numbers, self._numbers):
            self._mask = self._mask if fill_places(self._mask, rows) else self._mask[rows]
            self._arrays = [array if fill_places(array, rows) else array[rows] for array in self._arrays]
        self._numbers = numbers

    def _resize(self, used: int, rows: int, tokens: int) -> None:
        def resized(array: NDArray[Any], axis: int) -> NDArray[Any]:
            shape = list(array.shape)
            shape[0], shape[axis] = rows, tokens
            new = np.empty(shape, array.dtype)
            kept, padding = np.split(new[:used], [min(tokens, array.shape[axis])], axis)
            kept[:], padding[:] = array[:used].take(range(kept.shape[axis]), axis), 0
            return new

        self._arrays = [resized(array, 2) for array in self._arrays]
        self._mask = resized(self._mask, 1)


def gather_rows(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """``array[rows]``, with only the rows copied that change their place where these come from behind the others.

    Args:
        array: may be changed.
        rows: which row comes to each place.
    """
    return array[: len(rows)] if fill_places(array, rows) else array[rows]


def order_of_places(stay: Sequence[int]) -> list[int]:
    """Which row comes to each place when only some stay: the last ones to the places of those that left.

    Args:
        stay: rows that stay, rising.
    """
    places, kept = range(len(stay)), set(stay)
    behind = [row for row in stay if row >= len(stay)]
    return [row if row in kept else behind.pop() for row in places]


def fill_places(array: NDArray[Any], rows: NDArray[np.int64]) -> bool:
    """Move rows in ``array``'s own memory where they come from behind all that stay; whether that was so."""
    moved = np.flatnonzero(rows != np.arange(len(rows)))
    if not array.flags.writeable or (rows[moved] < len(rows)).any():
        return False
    array[moved] = array[rows[moved]]
    return True


def pad_contexts(contexts: Sequence[Context]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join the parts of each context and stack them, ``(rows, tokens, width)``, with a mask that is 1 where it is real.

    Args:
        contexts: each of one part at least.
    """
    lengths = [sum(map(len, context)) for context in contexts]
    padded = np.zeros((len(contexts), max(lengths), contexts[0][0].shape[1]), dtype=np.float32)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    for row, context, length in zip(padded, contexts, lengths, strict=True):
        np.concatenate(context, out=row[:length])
    return padded, mask
