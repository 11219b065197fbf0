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

    def forward(self, outputs: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the parts of the loss, already weighted; the trainer sums and logs them.

        Args:
            outputs: what the student's ``forward`` returned.
            batch: the whole batch, teacher outputs included.
        """
        raise NotImplementedError(f"{type(self).__name__} must say which tensors go to which loss.")
