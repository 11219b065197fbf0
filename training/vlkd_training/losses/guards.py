"""What every loss refuses: shapes that would broadcast, and a teacher that is not finite."""

from __future__ import annotations

import torch

__all__ = ["require_finite", "require_same_shape"]


def require_same_shape(
    first_name: str, first: torch.Tensor, second_name: str, second: torch.Tensor, axes: str, dim: int
) -> None:
    """Refuse two tensors that are not both of shape ``axes``, for torch would broadcast one over the other.

    Args:
        first_name: what the first tensor holds, in the plural, to begin the sentence with.
        first: any shape.
        second_name: what the second tensor holds.
        second: any shape.
        axes: the shape that both should have, in words, such as ``(batch, classes)``.
        dim: how many axes that is.

    Raises:
        ValueError: the shapes differ, or have another number of axes.
    """
    if first.shape != second.shape or first.dim() != dim:
        raise ValueError(
            f"{first_name} have shape {tuple(first.shape)} and {second_name} {tuple(second.shape)}; both must be "
            f"{axes}, row k of one belonging to row k of the other."
        )


def require_finite(name: str, values: torch.Tensor) -> None:
    """Refuse a teacher with NaN or infinity, which would pass for a student that diverged.

    Args:
        name: whose values they are, in the plural, to begin the sentence with.
        values: any shape.

    Raises:
        ValueError: one of them is not finite.
    """
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} hold NaN or infinity; check the teacher or its cache.")
