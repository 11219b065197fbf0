"""One of several cached views of a picture, drawn each time it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["RandomViews"]


class RandomViews:
    """Stands where cached tokens stand: ``views[row]`` is a random view of that picture.

    Args:
        tokens: shape ``(views, pictures, ...)``.
    """

    def __init__(self, tokens: Any) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return self.tokens.shape[1]

    def __getitem__(self, row: int) -> np.ndarray:
        """Drawn from torch's random numbers, which checkpoints keep."""
        return self.tokens[int(torch.randint(self.tokens.shape[0], (1,))), row]
