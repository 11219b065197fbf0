"""The class distribution of a supervised image teacher, for the picture and for its caption."""

from __future__ import annotations

import torch
from torch import nn

from .guards import require_finite, require_same_shape

__all__ = ["ClassDistributionLoss"]


class ClassDistributionLoss(nn.Module):
    r"""Kullback-Leibler divergence of the student's class distributions from the teacher's.

    L_KD = 1/2 D_KL(pi(p) || pi(h_v''')) + 1/2 D_KL(pi(p) || pi(h_w''')), pi the softmax of equation (45) and p the
    teacher's logits for the picture; the caption is held against the picture's classes.

    The direction is teacher first: D_KL(p || q) = sum_j p_j log(p_j / q_j), equation (2), so a class the teacher sees
    and the student does not costs much, and the teacher's entropy is part of the value: equal distributions give 0.
    ``torch.nn.functional.kl_div`` takes the student first and in logarithms, and its default reduction ``"mean"``
    divides by batch times classes, which for 1,000 classes is a thousandth of the equation; ``"batchmean"`` sums over
    the classes and averages over the batch, and is what is used.

    Equation (46) prints h'' where the logits are h''' of equation (44), the only layer as wide as the classes; the
    thesis's Code 2 takes h''' too. No temperature: (45) has none.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.1.1.2, equations (45) and (46); equation (30) of SHRe is the same.
    """

    def forward(
        self, image_logits: torch.Tensor, text_logits: torch.Tensor, teacher_logits: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Compare three class distributions of each pair.

        Args:
            image_logits: the student's h''' of the picture, shape ``(batch, classes)``.
            text_logits: the student's h''' of the caption, shape ``(batch, classes)``.
            teacher_logits: p, the teacher's for the picture, shape ``(batch, classes)``; no gradient flows into it.

        Returns:
            ``kd_image`` and ``kd_text``, scalars in nats, each already weighted by 1/2.

        Raises:
            ValueError: shapes differ, there is one class (its softmax is always 1), or the teacher is not finite.
        """
        for name, logits in (("Picture logits", image_logits), ("Caption logits", text_logits)):
            require_same_shape(name, logits, "the teacher's", teacher_logits, "(batch, classes)", 2)
        if teacher_logits.shape[1] < 2:
            raise ValueError("A distribution over 1 class is always 1 and trains nothing; the teacher needs 2 or more.")
        require_finite("The teacher's logits", teacher_logits)
        target = teacher_logits.detach().float().log_softmax(dim=-1)
        return {"kd_image": self._half(image_logits, target), "kd_text": self._half(text_logits, target)}

    def _half(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        found = logits.float().log_softmax(dim=-1)
        return 0.5 * nn.functional.kl_div(found, target, reduction="batchmean", log_target=True)
