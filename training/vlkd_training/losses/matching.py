"""Image-text matching: does this caption belong to this picture?"""

from __future__ import annotations

import torch
from torch import nn

from .guards import require_same_shape

__all__ = ["ImageTextMatchingLoss", "matching_accuracy"]


class ImageTextMatchingLoss(nn.Module):
    r"""Mean of the cross-entropies of two matching heads.

    L_ITM = 1/2 L_CE(h'_IT_ITM, y) + 1/2 L_CE(h''_IT_ITM, y), equation (66), one head on the output of each linear layer
    of the shared block; L_CE over the two logits, 0 for "does not match" and 1 for "matches", equation (67). Averaged
    over the 3B pairs of a batch: B true ones, B pictures with another caption and B captions with another picture.

    Heads that always answer "no" are right in two of three pairs and cost -1/3 log(1/3) - 2/3 log(2/3) = 0.6365 at
    best: this is where the thesis's training stays (Figure 22).

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.4.2, equations (66) and (67).
    """

    def forward(self, logits1: torch.Tensor, logits2: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Score both heads.

        Args:
            logits1: of the head on h', shape ``(3 batch, 2)``.
            logits2: of the head on h'', shape ``(3 batch, 2)``.
            labels: 1 where picture and text belong together and 0 elsewhere, integers, shape ``(3 batch,)``.

        Returns:
            A scalar.

        Raises:
            ValueError: shapes do not fit, a label is neither 0 nor 1, or all labels are alike.
        """
        require_same_shape("Logits of the first head", logits1, "the second's", logits2, "(pairs, 2)", 2)
        _check(logits1, labels)
        if bool((labels == labels[0]).all()):
            raise ValueError(
                f"All {len(labels)} labels are {int(labels[0])}: a head then learns one answer. It needs pairs that "
                "match and pairs that do not."
            )
        first, second = (nn.functional.cross_entropy(logits.float(), labels) for logits in (logits1, logits2))
        return 0.5 * first + 0.5 * second


def matching_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of pairs that one head answers rightly; 0.6667 for a head that always says "no" (Figure 22).

    Args:
        logits: shape ``(pairs, 2)``.
        labels: 0 or 1, shape ``(pairs,)``.

    Returns:
        A scalar between 0 and 1, without gradient.

    Raises:
        ValueError: shapes do not fit, or a label is neither 0 nor 1.
    """
    _check(logits, labels)
    return (logits.argmax(dim=-1) == labels).float().mean()


def _check(logits: torch.Tensor, labels: torch.Tensor) -> None:
    if logits.shape != (*labels.shape, 2) or labels.dim() != 1 or len(labels) == 0:
        raise ValueError(
            f"Logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "expected (pairs, 2) and (pairs,)."
        )
    if labels.is_floating_point() or not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"Labels must be integers, 0 or 1; got {labels.dtype} with {labels.unique().tolist()[:5]}.")
