"""The two refusals that the losses share."""

from __future__ import annotations

import pytest
import torch

from vlkd_training.losses.guards import require_finite, require_same_shape


@pytest.mark.parametrize("other", [(1, 3), (4, 1), (4, 3, 1), (3,)])
def test_whatever_would_broadcast_is_refused(other: tuple[int, ...]) -> None:
    """Each of these combines with (4, 3) in torch without a word."""
    with pytest.raises(ValueError, match=r"Pictures have shape \(4, 3\) and texts .*both must be \(batch, dim\)"):
        require_same_shape("Pictures", torch.ones(4, 3), "texts", torch.ones(other), "(batch, dim)", 2)


def test_equal_shapes_of_another_kind_are_refused() -> None:
    """Two sequences of equal shape are no two batches of vectors."""
    with pytest.raises(ValueError, match=r"both must be \(batch, dim\)"):
        require_same_shape("Pictures", torch.ones(2, 4, 3), "texts", torch.ones(2, 4, 3), "(batch, dim)", 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="The teacher's logits hold NaN or infinity"):
        require_finite("The teacher's logits", torch.tensor([0.0, bad]))


def test_what_fits_passes() -> None:
    """A guard that refuses everything would be found by no test above."""
    require_same_shape("Pictures", torch.ones(4, 3), "texts", torch.zeros(4, 3), "(batch, dim)", 2)
    require_finite("The teacher's logits", torch.ones(3))
