"""The image quantizer's loss: rebuild the class token, and keep it near its prototype."""

from __future__ import annotations

import torch
from torch import nn

from .guards import require_finite, require_same_shape

__all__ = ["ImageQuantizationLoss"]


class ImageQuantizationLoss(nn.Module):
    r"""L_I-VQ = 1 - cos(h_F, h_Lt) + ||delta(h_Lt W_down) - sg[delta(q_m)]||^2, means over the batch.

    The text below (88) puts q_m in the first cosine; the equation has the reconstruction h_F against the teacher's
    class token, which is what it calls the reconstruction loss, and the equation is taken. ||.||^2 is a mean over the
    S numbers, as equation (1) defines the sign and the text reads it here ("the mean squared error").

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.7.2, equations (88) and (1).
    """

    def forward(
        self,
        reconstruction: torch.Tensor,
        teacher_cls: torch.Tensor,
        projected: torch.Tensor,
        prototypes: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Score a batch.

        Args:
            reconstruction: the decoder's class token h_F, shape ``(batch, D)``.
            teacher_cls: h_Lt of the frozen teacher, shape ``(batch, D)``.
            projected: h_Lt W_down, shape ``(batch, S)``.
            prototypes: q_m, shape ``(batch, S)``; no gradient flows into it.

        Returns:
            ``reconstruction`` and ``commitment``, whose sum is L_I-VQ.

        Raises:
            ValueError: shapes differ, or the teacher is not finite.
        """
        require_same_shape("Reconstructions", reconstruction, "teacher's class tokens", teacher_cls, "(batch, dim)", 2)
        require_same_shape("Projections", projected, "prototypes", prototypes, "(batch, code size)", 2)
        require_finite("Teacher's class tokens", teacher_cls)
        cosine = nn.functional.cosine_similarity(reconstruction.float(), teacher_cls.detach().float(), dim=-1)
        vectors, targets = (nn.functional.normalize(rows.float(), dim=-1) for rows in (projected, prototypes.detach()))
        return {
            "reconstruction": (1 - cosine).mean(),
            "commitment": (vectors - targets).pow(2).mean(),
        }
