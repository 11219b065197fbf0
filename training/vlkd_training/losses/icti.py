"""Image-conditioned text infilling."""

from __future__ import annotations

import torch
from torch import nn

from .gather import mean_count

__all__ = ["ICTILoss"]


class ICTILoss(nn.Module):
    r"""Negative log-likelihood of the whole text given its corrupted form and the picture.

    L_ICTI = -1/B sum_k sum_j log P(w_j | w_<j, C), equation (2): summed over tokens, averaged over texts.

    Args:
        per_token: average over tokens instead, as fine-tuning usually does; long texts then count as short ones.
        label_smoothing: share of the target spread over the vocabulary.

    Source: 002_330011b7ef9ac362.txt, section 3.2.3, equation (2).
    """

    def __init__(self, per_token: bool = False, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.per_token = per_token
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Score the labelled tokens.

        Args:
            logits: of the labelled tokens in reading order, shape ``(labelled tokens, vocabulary)``, or of all
                positions, shape ``(batch, length, vocabulary)``.
            labels: targets, -100 where there is none, shape ``(batch, length)``.

        Returns:
            A scalar.

        Raises:
            ValueError: no token is labelled, or logits and labels do not belong together.
        """
        wanted = labels != -100
        count = int(wanted.sum())
        if count == 0:
            raise ValueError(f"No labelled token in a batch of {labels.shape[0]} texts; are the captions empty?")
        if logits.dim() == 3:
            logits = logits[wanted]
        if logits.shape[0] != count:
            raise ValueError(f"Got logits for {logits.shape[0]} tokens and labels for {count}.")
        total = nn.functional.cross_entropy(
            logits.float(), labels[wanted], reduction="sum", label_smoothing=self.label_smoothing
        )
        return total / (mean_count(count, labels.device) if self.per_token else labels.shape[0])
