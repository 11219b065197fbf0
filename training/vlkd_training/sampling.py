"""Order of the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

__all__ = ["HomogeneousSampler"]


class HomogeneousSampler(Sampler[int]):
    """Shuffled rows, every batch from one group.

    Captions are ten times as long as answers; a batch that mixes both pads the answers tenfold. Each group is
    shuffled, cut into whole batches (its rest is left out this epoch), and the batches are shuffled.

    Args:
        groups: the group of each row.
        batch_size: rows per batch, over all processes.

    Raises:
        ValueError: no group fills one batch.
    """

    def __init__(self, groups: Sequence[int], batch_size: int) -> None:
        self.groups = np.asarray(groups)
        self.batch_size = batch_size
        if len(self) == 0:
            raise ValueError(f"No group of rows fills a batch of {batch_size}; lower the batch size or add data.")

    def __len__(self) -> int:
        _, counts = np.unique(self.groups, return_counts=True)
        return int((counts // self.batch_size).sum()) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))  # from torch's state, which checkpoints keep
        batches = []
        for group in np.unique(self.groups):
            rows = rng.permutation(np.flatnonzero(self.groups == group))
            whole = len(rows) // self.batch_size * self.batch_size
            batches += np.split(rows[:whole], whole // self.batch_size) if whole else []
        rng.shuffle(batches)
        return iter(np.concatenate(batches).tolist())
