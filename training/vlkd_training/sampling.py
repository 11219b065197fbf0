"""Order of the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

__all__ = ["HomogeneousSampler"]


class HomogeneousSampler(Sampler[int]):
    """Shuffled rows, every batch from one group.

    Captions are ten times as long as answers; a batch that mixes both pads the answers tenfold. Each group is
    shuffled, cut into whole batches (its rest is left out this epoch), and the batches are shuffled.

    Args:
        groups: the group of each row.
        batch_size: rows per batch, over all processes.
        seed: of the order; with the epoch it fixes it, so a resumed run goes on with the rows that were left.

    Raises:
        ValueError: no group fills one batch.
    """

    def __init__(self, groups: Sequence[int], batch_size: int, seed: int = 0) -> None:
        self.groups = np.asarray(groups)
        self.batch_size = batch_size
        self.seed, self.epoch = seed, 0
        if len(self) == 0:
            raise ValueError(f"No group of rows fills a batch of {batch_size}; lower the batch size or add data.")

    def __len__(self) -> int:
        _, counts = np.unique(self.groups, return_counts=True)
        return int((counts // self.batch_size).sum()) * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch, a resumed one included."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = []
        for group in np.unique(self.groups):
            rows = rng.permutation(np.flatnonzero(self.groups == group))
            whole = len(rows) // self.batch_size * self.batch_size
            batches += np.split(rows[:whole], whole // self.batch_size) if whole else []
        rng.shuffle(batches)
        return iter(np.concatenate(batches).tolist())
