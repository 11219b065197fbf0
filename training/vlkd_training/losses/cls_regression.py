"""The class token of a self-supervised image teacher, for the picture and for its caption."""

from __future__ import annotations

import torch
from torch import nn

from .guards import require_finite, require_same_shape

__all__ = ["ClsRegressionLoss"]


class ClsRegressionLoss(nn.Module):
    r"""Mean squared error between the student's regression heads and the teacher's class token.

    L_KD = 1/2 ||h_v''' - h_t||^2 + 1/2 ||h_w''' - h_t||^2, equation (57), printed again as (78); h_t is the teacher's
    class token of the picture, for the caption too.

    Read as a mean over the width, not as a sum: the thesis defines its ||y - y'||_2^2 in equation (1) as
    1/D sum_d (y_d - y'_d)^2, and its text under (57) says mean squared error. A plain squared norm would be 768 times
    that and drown the contrastive loss, beside which (48) puts it with weight 1. Averaged over the batch.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.2.2, equations (1), (57) and (78).
    """

    def forward(
        self, image_values: torch.Tensor, text_values: torch.Tensor, teacher_cls: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Compare both predictions of each pair with the teacher.

        Args:
            image_values: h_v''' of the picture's class token, shape ``(batch, teacher's width)``.
            text_values: h_w''' of the caption's class token, shape ``(batch, teacher's width)``.
            teacher_cls: h_t, shape ``(batch, teacher's width)``; no gradient flows into it.

        Returns:
            ``kd_image`` and ``kd_text``, scalars, each already weighted by 1/2.

        Raises:
            ValueError: shapes differ, or the teacher is not finite.
        """
        for name, values in (("Picture values", image_values), ("Caption values", text_values)):
            require_same_shape(name, values, "the teacher's class tokens", teacher_cls, "(batch, width)", 2)
        require_finite("The teacher's class tokens", teacher_cls)
        target = teacher_cls.detach().float()
        return {
            "kd_image": 0.5 * nn.functional.mse_loss(image_values.float(), target),
            "kd_text": 0.5 * nn.functional.mse_loss(text_values.float(), target),
        }
