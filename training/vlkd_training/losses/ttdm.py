"""Text-text distance minimisation."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["TTDMLoss"]


class TTDMLoss(nn.Module):
    r"""Squared distance between the student's and the teacher's sentence vectors.

    L_TTDM = 1/B sum_k || t_eos^k - e_norm^k ||^2

    Source: 002_330011b7ef9ac362.txt, section 3.2.1.
    """

    def forward(self, text_embeds: torch.Tensor, teacher_text_embeds: torch.Tensor) -> torch.Tensor:
        """Compare unit vectors of the same texts.

        Args:
            text_embeds: e_norm, L2-normalised, shape ``(batch, dim)``.
            teacher_text_embeds: t_eos, L2-normalised, shape ``(batch, dim)``.

        Returns:
            A scalar between 0 and 4.

        Raises:
            ValueError: the shapes differ (broadcasting would compare the wrong texts), or the teacher is not finite.
        """
        if text_embeds.shape != teacher_text_embeds.shape:
            raise ValueError(
                f"Student text embeddings have shape {tuple(text_embeds.shape)} and the teacher's "
                f"{tuple(teacher_text_embeds.shape)}; both must be (batch, dim) of the same texts."
            )
        if not torch.isfinite(teacher_text_embeds).all():
            raise ValueError("The teacher's text embeddings hold NaN or infinity; check the teacher or its cache.")
        return (text_embeds.float() - teacher_text_embeds.float()).pow(2).sum(dim=-1).mean()
