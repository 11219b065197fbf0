"""Contexts come and go in arrays with room to spare."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vlkd_hub.runtime.context_rows import ROOM, ContextRows, gather_rows, order_of_places, pad_contexts


def rows(count: int, tokens: int, first: float) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Two arrays, each row filled with its own number, and a mask without padding."""
    array = np.ones((count, 2, tokens, 3), np.float32) * np.arange(first, first + count).reshape(-1, 1, 1, 1)
    return [array.astype(np.float32), -array.astype(np.float32)], np.ones((count, tokens), np.int64)


def numbers(contexts: ContextRows) -> list[float]:
    """Which row lies where; both arrays say the same."""
    feeds = contexts.feeds
    assert np.array_equal(feeds["a"], -feeds["b"])
    assert all(array.flags.c_contiguous for array in feeds.values())
    return list(feeds["a"][:, 0, 0, 0])


def test_rows_join_and_leave_without_copying_the_others() -> None:
    """The last rows take the places of those that ended, and newcomers the room behind."""
    contexts = ContextRows(["a", "b"])
    contexts.add(*rows(3, 4, 1.0))
    contexts.add(*rows(2, 4, 4.0))
    assert numbers(contexts) == [1, 2, 3, 4, 5]
    memory = contexts.feeds["a"].ctypes.data
    contexts.reorder(np.array([4, 1, 3]))
    assert numbers(contexts) == [5, 2, 4]
    contexts.add(*rows(ROOM - 3, 4, 6.0))
    assert numbers(contexts) == [5, 2, 4, *range(6, 6 + ROOM - 3)]
    assert contexts.feeds["a"].ctypes.data == memory
    contexts.add(*rows(1, 4, 99.0))
    assert numbers(contexts)[-1] == 99 and len(numbers(contexts)) == ROOM + 1


def test_longer_and_shorter_rows() -> None:
    """Padding is zeros and masked, whichever of the two comes first; old values of a place do not shine through."""
    contexts = ContextRows(["a", "b"])
    contexts.add(*rows(1, 2, 1.0))
    contexts.add(*rows(2, 4, 2.0))
    contexts.reorder(np.array([0]))
    contexts.add(*rows(1, 3, 4.0))
    feeds = contexts.feeds
    assert feeds["context_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
    assert feeds["a"][:, 0, :, 0].tolist() == [[1, 1, 0, 0], [4, 4, 4, 0]]


def test_a_long_context_is_not_paid_for_when_it_has_left() -> None:
    """The next one that joins makes the arrays as narrow as they need be, with what is there kept."""
    contexts = ContextRows(["a", "b"])
    contexts.add(*rows(1, 4, 1.0))
    contexts.add(*rows(1, 500, 2.0))
    contexts.reorder(np.array([0]))
    contexts.add(*rows(1, 5, 3.0))
    feeds = contexts.feeds
    assert feeds["context_mask"].tolist() == [[1, 1, 1, 1, 0], [1] * 5]
    assert numbers(contexts) == [1, 3] and feeds["a"][0, 0, :, 0].tolist() == [1, 1, 1, 1, 0]


def test_arrays_that_may_not_be_written_to() -> None:
    """A runtime may give such: they are copied, and the places of mask and arrays stay the same."""
    first, mask = rows(3, 2, 1.0)
    for array in first:
        array.flags.writeable = False
    contexts = ContextRows(["a", "b"])
    contexts.add(first, mask)
    contexts.reorder(np.array([2, 1]))
    contexts.add(*rows(1, 2, 9.0))
    assert numbers(contexts) == [3, 2, 9] and first[0][:, 0, 0, 0].tolist() == [1, 2, 3]


def test_the_last_rows_take_the_places_of_those_that_left() -> None:
    assert order_of_places([0, 2, 5]) == [0, 5, 2] and order_of_places([1, 2, 3]) == [3, 1, 2]
    assert order_of_places([0, 1]) == [0, 1] and order_of_places([]) == []


def test_rows_may_be_repeated_and_emptied() -> None:
    """As beam search does; and a line that ran empty begins anew."""
    contexts = ContextRows(["a", "b"])
    contexts.add(*rows(2, 2, 1.0))
    contexts.reorder(np.array([0, 0, 1, 1]))
    assert numbers(contexts) == [1, 1, 2, 2]
    contexts.reorder(np.array([], dtype=np.int64))
    assert numbers(contexts) == []
    contexts.add(*rows(1, 5, 7.0))
    assert numbers(contexts) == [7] and contexts.feeds["context_mask"].shape == (1, 5)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 3], [3, 1], [1, 0], [2, 2, 0, 1], []])
@pytest.mark.parametrize("writeable", [True, False])
def test_gathered_rows(order: list[int], writeable: bool) -> None:
    """What fancy indexing gives, in place or not; an array that may not be written to stays as it was."""
    array = np.arange(8.0).reshape(4, 2)
    expected = array[order] if order else array[:0]
    array.flags.writeable = writeable
    assert np.array_equal(gather_rows(array, np.array(order, dtype=np.int64)), expected)
    assert writeable or np.array_equal(array, np.arange(8.0).reshape(4, 2))


def test_padding_of_contexts() -> None:
    """Parts one behind the other; padding behind the shorter context, and masked."""
    first, second = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    padded, mask = pad_contexts([[first], [second, first]])
    assert padded[:, :, 0].tolist() == [[1, 1, 0, 0], [2, 2, 1, 1]] and mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
