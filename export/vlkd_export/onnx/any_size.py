"""Image towers that take square pictures of other sizes than the one they were trained with.

A timm backbone pools its maps to a fixed grid, so nothing after it depends on the picture's size; only the pooling
itself branches on the map's size, which a traced graph cannot. Here the same pooling is a product with two matrices
made from that size. Backbones with one position vector a patch (every ``hf`` one, ViTs of timm too) cannot do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vlkd_hub.errors import InvalidInputError

__all__ = ["grid_of_any_size", "tower_of_any_size"]


@contextmanager
def tower_of_any_size(tower: Any) -> Iterator[None]:
    """While it is open, ``tower`` pools with :func:`grid_of_any_size`.

    Raises:
        InvalidInputError: the tower's backbone has positions of its own, or is not one of this package's towers.
    """
    config = getattr(tower, "config", None)
    if config is None or config.backbone_type != "timm" or hasattr(tower.backbone, "pos_embed"):
        name = getattr(config, "backbone_name", None) or getattr(config, "backbone_type", None) or "this model's own"
        raise InvalidInputError(
            f"The image tower ({name}) has one position vector a patch, so it takes pictures of one size only. "
            "Leave --dynamic-image-size out."
        )
    tower._to_grid = grid_of_any_size
    try:
        yield
    finally:
        del tower._to_grid


def grid_of_any_size(feature_map: torch.Tensor, side: int) -> torch.Tensor:
    """``VisionTower._to_grid`` for maps whose size is not known yet: ``(B, C, h, w)`` -> ``(B, C, side, side)``."""
    rows, columns = (_pooling(length, side) for length in feature_map.shape[2:])
    return rows @ feature_map @ columns.t()


def _pooling(length: int, side: int) -> torch.Tensor:
    """What each of ``side`` cells takes of ``length`` places, ``(side, length)``: a mean if they fit, else linear."""
    places = torch.arange(length)
    have = places[-1] + 1
    cells = torch.arange(side)[:, None]
    mean = (places[None] * side // have == cells) * (side / have)
    source = ((cells + 0.5) * have / side - 0.5).clamp(min=0)
    low = source.floor()
    high = torch.minimum(low + 1, have - 1)
    share = source - low
    linear = (places[None] == low) * (1 - share) + (places[None] == high) * share
    return torch.where(have % side == 0, mean, linear)
