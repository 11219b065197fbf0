"""Four numbers for a tensor: the same everywhere, blind to nothing."""

from __future__ import annotations

import numpy as np
import pytest

from vlkd_export.sketch import NUMBERS, sketch


def test_the_signs_are_frozen() -> None:
    """A bundle is verified with another numpy than it was exported with."""
    found = sketch(np.arange(6, dtype=np.float32).reshape(1, 2, 3))
    np.testing.assert_allclose(found, [[-0.408248, 4.490731, -1.224745, -4.490731]], atol=1e-6)


@pytest.mark.parametrize("size", [1, 30, 5000])
def test_one_changed_value_moves_every_number(size: int) -> None:
    """By its share; so no value is unseen."""
    tensor = np.random.RandomState(0).randn(2, size).astype(np.float32)
    before = sketch(tensor)
    assert before.shape == (2, NUMBERS)
    for place in {0, size // 2, size - 1}:
        changed = tensor.copy()
        changed[1, place] += 1
        moved = np.abs(sketch(changed) - before)
        np.testing.assert_allclose(moved, [[0] * NUMBERS, [size**-0.5] * NUMBERS], atol=1e-6)


def test_a_small_error_everywhere_stays_small() -> None:
    """Float32's own error must not add up to an alarm."""
    tensor = np.ones((1, 40_000), np.float32)
    noise = np.random.RandomState(0).uniform(-1e-5, 1e-5, tensor.shape).astype(np.float32)
    assert np.abs(sketch(tensor + noise) - sketch(tensor)).max() < 5e-5
