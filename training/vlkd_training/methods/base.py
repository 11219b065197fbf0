"""What a distillation method is: which tensors go to which loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["Method"]


class Method(nn.Module):
    """Turns a student's outputs and a batch into named, weighted losses.

    A method holds losses and its own state (queues, banks) but never a model: the trainer runs every forward pass.
    As an ``nn.Module`` its buffers travel in the checkpoint.
    """

    student_inputs: tuple[str, ...] = ()
    """Batch entries that go to the student's ``forward``; everything else stays with the method."""

    student_options: dict[str, Any] = {}
    """Fixed keyword arguments of the student's ``forward``."""

    contrast_outputs: tuple[str, ...] = ()
    """Outputs of the student that compare rows of a batch with each other (embeddings, a temperature); none for a
    loss that is a mean over rows. Needed for ``cached_contrastive_chunk``."""

    def wanted(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the student's part of a batch."""
        return {name: batch[name] for name in self.student_inputs if batch.get(name) is not None}

    def prepare(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Complete a batch with what only the student itself can give, for example texts it writes; no gradient."""
        return batch

    def precompute(self, model: Any, batch: dict[str, Any], rows: int) -> dict[str, Any]:
        """Put in the place of inputs what frozen parts of the student say of them, ``rows`` at a time.

        For a batch that goes through the student in chunks, twice.
        """
        return batch

    def contrast_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The parts that need every row of the batch at once, from ``contrast_outputs`` alone."""
        return {}

    def row_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The parts that are means over the rows of a batch."""
        return {}

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the parts of the loss, already weighted; the trainer sums and logs them.

        Args:
            outputs: what the student's ``forward`` returned.
            batch: the whole batch, teacher outputs included.
        """
        raise NotImplementedError(f"{type(self).__name__} must say which tensors go to which loss.")

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        """Return what a resumed run needs of the method: its parameters and buffers, unless a subclass says more.

        Every process saves its own, since queues differ between processes.
        """
        return self.state_dict()

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what :meth:`checkpoint_state` returned; a method whose tensors change shape overrides both."""
        self.load_state_dict(state)
