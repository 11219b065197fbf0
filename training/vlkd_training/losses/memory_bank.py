"""Vectors of earlier batches, kept as further candidates of a contrast."""

from __future__ import annotations

import torch
from torch import nn

from .gather import gather_rows
from .guards import require_finite

__all__ = ["ExampleBank", "MemoryBank"]


class MemoryBank(nn.Module):
    r"""FIFO queue of U vectors and the pictures they belong to.

    New rows replace the oldest. With a batch of B rows the contrast then has B + U - 1 negatives. Rows, ids, place and
    fill are buffers: they travel in the checkpoint, and a resumed run has the same bank to the bit.

    Under distributed training every process pushes the rows of all of them, so that the banks stay equal and the
    processes must hold as many rows each.

    One bank stores one modality of one layer (Table 20); four of 65,536 x 768 in fp32 take 805 MB.

    Args:
        size: U, in rows; 65,536 with the momentum encoder and for teacher vectors (G).
        width: of a vector.

    Raises:
        ValueError: a size or width below 1.

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.4.3 (Table 20), 3.2.4.3.3 and 3.2.6.3 (V of equation (84)).
    """

    rows: torch.Tensor
    ids: torch.Tensor
    position: torch.Tensor
    filled: torch.Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        _require_positive(size=size, width=width)
        self.size, self.width = size, width
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("ids", torch.zeros(size, dtype=torch.long))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return int(self.filled)

    @torch.no_grad()
    def push(self, rows: torch.Tensor, ids: torch.Tensor) -> None:
        """Store the rows of this batch, of every process, in the place of the oldest.

        Call it after the loss of the batch: a row is no candidate beside itself. Of a batch larger than the bank the
        last rows stay.

        Args:
            rows: as the contrast will use them, shape ``(batch, width)``.
            ids: the picture of each row, shape ``(batch,)``.

        Raises:
            ValueError: other shapes, or rows with NaN or infinity, which would spoil every later batch.
        """
        _check_rows(rows, ids, self.width)
        rows, ids = gather_rows(rows.float())[-self.size :], gather_rows(ids)[-self.size :]
        start = int(self.position)
        places = (torch.arange(len(rows), device=self.rows.device) + start) % self.size
        self.rows[places] = rows
        self.ids[places] = ids.to(self.ids.dtype)
        self.position.fill_((start + len(rows)) % self.size)
        self.filled.fill_(min(self.size, len(self) + len(rows)))

    def valid(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows that were written, oldest first, ``(filled, width)``, and their pictures, ``(filled,)``.

        Both are copies: the backward pass still needs the rows when a push has already replaced them.
        """
        start = int(self.position) if len(self) == self.size else 0
        order = [slice(start, len(self)), slice(0, start)]
        return torch.cat([self.rows[part] for part in order]), torch.cat([self.ids[part] for part in order])


class ExampleBank(nn.Module):
    """One slot for every training example, as the first memory bank had it.

    Before each step K slots are drawn as negatives; after it the slots of the batch are overwritten. ``stored`` gives
    v^(t-1) of equation (69) for :class:`vlkd_training.losses.ProximalLoss`. The thesis describes this bank and could
    not afford its 10 GB; it is for data sets of a small machine.

    Args:
        examples: how many there are in the training data.
        width: of a vector.

    Raises:
        ValueError: a number below 1.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.4.3.1, equation (69) and Figure 23.
    """

    rows: torch.Tensor
    seen: torch.Tensor

    def __init__(self, examples: int, width: int) -> None:
        super().__init__()
        _require_positive(examples=examples, width=width)
        self.width = width
        self.register_buffer("rows", torch.zeros(examples, width))
        self.register_buffer("seen", torch.zeros(examples, dtype=torch.bool))

    @torch.no_grad()
    def update(self, rows: torch.Tensor, ids: torch.Tensor) -> None:
        """Overwrite the slots of a batch, of every process; of two rows of one example the later one stays.

        Args:
            rows: v^t, shape ``(batch, width)``.
            ids: number of each example, from 0, shape ``(batch,)``.

        Raises:
            ValueError: other shapes, a number that has no slot, or rows with NaN or infinity.
        """
        _check_rows(rows, ids, self.width)
        self._check_ids(ids)
        rows, ids = gather_rows(rows.float()), gather_rows(ids)
        slots, which = ids.unique(return_inverse=True)
        order = torch.arange(len(ids), device=ids.device)
        last = torch.zeros_like(slots).scatter_reduce(0, which, order, "amax")
        self.rows[slots] = rows[last]
        self.seen[slots] = True

    def stored(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return v^(t-1) of some examples, ``(batch, width)``, and which of them were ever written, ``(batch,)``.

        Raises:
            ValueError: a number that has no slot.
        """
        self._check_ids(ids)
        return self.rows[ids], self.seen[ids]

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw K written slots with equal chance, each at most once; fewer where fewer were written.

        Every process draws its own.

        Returns:
            Vectors, shape ``(at most count, width)``, and the numbers of their examples.
        """
        written = self.seen.nonzero().squeeze(1)
        chosen = written[torch.randperm(len(written))[:count].to(written.device)]
        return self.rows[chosen], chosen

    def _check_ids(self, ids: torch.Tensor) -> None:
        if len(ids) and not (ids.min() >= 0 and ids.max() < len(self.rows)):
            raise ValueError(
                f"Examples are numbered 0 to {len(self.rows) - 1} in this bank, got {int(ids.min())} to "
                f"{int(ids.max())}; make it as large as the training data."
            )


def _check_rows(rows: torch.Tensor, ids: torch.Tensor, width: int) -> None:
    if rows.dim() != 2 or rows.shape[1] != width or ids.shape != rows.shape[:1]:
        raise ValueError(
            f"A bank of width {width} takes rows (batch, {width}) and one id each (batch,), got {tuple(rows.shape)} "
            f"and {tuple(ids.shape)}."
        )
    require_finite("Rows for the bank", rows)


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} of a memory bank must be at least 1, got {number}.")
