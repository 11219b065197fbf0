"""Proximal regularisation: a vector may not move far from what the memory bank holds of the same example."""

from __future__ import annotations

import torch
from torch import nn

from .guards import require_finite, require_same_shape

__all__ = ["ProximalLoss"]


class ProximalLoss(nn.Module):
    r"""Weighted squared distance between an example's vector now and at its last visit.

    lambda ||v_i^t - v_i^(t-1)||^2, the second term of equation (69), averaged over the batch; the first term is the
    contrast, which is another loss. v^(t-1) comes from a bank with one slot per training example.

    The norm is the plain sum over the width here, between 0 and 4 for unit vectors, although equation (1) of the thesis
    gives the sign ||.||^2 a mean: lambda = 30 was measured by the paper that (69) quotes, on unit vectors with the
    plain norm, and a mean over 768 numbers would turn it into 0.04. Vectors are normalised here, as that paper's are
    and as the contrast's are. An example seen for the first time has no earlier vector and adds nothing, while it still
    counts in the average, so that the weight of each other example does not depend on its neighbours.

    Args:
        weight: lambda; 30 in the thesis, which describes the term and did not train it.

    Raises:
        ValueError: the weight is negative.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.4.3.1, equation (69).
    """

    def __init__(self, weight: float = 30.0) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"The weight of the proximal term must be 0 or more, got {weight}.")
        self.weight = weight

    def forward(self, embeds: torch.Tensor, previous: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """Compare each row with its own slot.

        Args:
            embeds: v^t of this batch, shape ``(batch, dim)``.
            previous: v^(t-1), the bank's slots of the same examples, shape ``(batch, dim)``; no gradient flows into it.
            known: whether the slot was ever written, boolean, shape ``(batch,)``; all of them if left out.

        Returns:
            A scalar between 0 and 4 lambda.

        Raises:
            ValueError: shapes differ, or a slot that counts is not finite.
        """
        require_same_shape("Vectors of the batch", embeds, "the bank's", previous, "(batch, dim)", 2)
        if known is None:
            known = torch.ones(len(embeds), dtype=torch.bool, device=embeds.device)
        if known.shape != embeds.shape[:1] or known.dtype != torch.bool:
            raise ValueError(
                f"known must be boolean of shape ({len(embeds)},), got {known.dtype} {tuple(known.shape)}."
            )
        require_finite("Slots of the memory bank", previous[known])
        target = previous.detach().float().masked_fill(~known.unsqueeze(1), 0.0)
        now, before = (nn.functional.normalize(rows, dim=-1) for rows in (embeds.float(), target))
        distance = (now - before).pow(2).sum(dim=-1)  # (B,)
        return self.weight * distance.masked_fill(~known, 0.0).mean()
