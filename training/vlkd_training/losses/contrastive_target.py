"""The teacher's own picture chosen among many, by the student's picture and by its caption."""

from __future__ import annotations

import torch
from torch import nn

from .candidates import Bank, candidates_of, choose_own
from .guards import require_finite, require_same_shape

__all__ = ["ContrastiveTargetLoss"]


class ContrastiveTargetLoss(nn.Module):
    r"""Contrastive target loss, in the place of the squared distance to the teacher's class token.

    L^w = delta(T_s) delta(I'_t)^T and L^v = delta(I_s) delta(I'_t)^T with I'_t the teacher's pictures of all processes
    and a bank of G frozen teacher vectors; L_KD = 1/2 CE(L^w) + 1/2 CE(L^v), the diagonal being right. (85) prints
    B' x G for the shape of L^w; with I'_t of (84) it is B' x (B' + G), which is built here, and L^v gets the bank as
    well. Two captions of one picture do not count as each other's negatives, nor does the bank's copy of the picture.

    Temperature: (83) has none, and neither has the contrast of section 1.5.3.2 that it "closely follows" ((26)-(28)),
    while the contrast that is trained in section 3.2.1 has a learned one from 0.07, as CLIP's. Cosines without one
    are at most 2 apart: with 66,048 candidates the best loss is ln(1 + 66047 / e^2) = 9.10, chance is 11.10, and a
    student gains more from the mean than from telling pictures apart. Default: 0.07, CLIP's start. ``None`` is the
    equation as it is printed; ``logit_scale`` in ``forward`` wins over both, for a learned one.
    tests/training/losses/test_contrastive_target.py trains a toy both ways.

    Args:
        temperature: what cosines are divided by; ``None`` leaves them as they are.

    Raises:
        ValueError: a temperature that is not positive.

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.6.1-3.2.6.3, equations (79)-(85).
    """

    def __init__(self, temperature: float | None = 0.07) -> None:
        super().__init__()
        if temperature is not None and not temperature > 0:
            raise ValueError(f"The temperature of the contrastive target must be positive or None, got {temperature}.")
        self.scale = 1.0 if temperature is None else 1.0 / temperature

    def forward(
        self,
        image_pred: torch.Tensor,
        text_pred: torch.Tensor,
        teacher_cls: torch.Tensor,
        bank: Bank | None = None,
        image_ids: torch.Tensor | None = None,
        logit_scale: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Let the student's rows choose among the teacher's.

        Args:
            image_pred: the student's prediction from each picture, I_s, shape ``(batch, dim)``.
            text_pred: its prediction from each caption, T_s, shape ``(batch, dim)``.
            teacher_cls: the frozen teacher's class token of each picture, I_t, shape ``(batch, dim)``.
            bank: V and the pictures of its rows, of ``MemoryBank.valid``.
            image_ids: which picture each row shows, shape ``(batch,)``; needed with a bank.
            logit_scale: 1 / temperature, a scalar.

        Returns:
            ``kd_image`` and ``kd_text``, the two halves of L_KD.

        Raises:
            ValueError: shapes differ, the teacher or the bank is not finite, ids are missing beside a bank, or there
                is a single candidate.
        """
        require_same_shape("Predictions from pictures", image_pred, "the teacher's", teacher_cls, "(batch, dim)", 2)
        require_same_shape("Predictions from captions", text_pred, "the teacher's", teacher_cls, "(batch, dim)", 2)
        require_finite("Teacher vectors", teacher_cls)
        if bank is not None:
            require_finite("Teacher vectors of the bank", bank[0])
            bank = (_normalized(bank[0]), bank[1])
        candidates, candidate_ids = candidates_of(_normalized(teacher_cls.detach()), image_ids, bank)
        scale: torch.Tensor | float = self.scale if logit_scale is None else logit_scale.float()
        halves = {}
        for name, predictions in (("kd_image", image_pred), ("kd_text", text_pred)):
            loss = choose_own(_normalized(predictions), candidates, scale, image_ids, candidate_ids)
            halves[name] = loss / 2
        return halves


def _normalized(rows: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(rows.float(), dim=-1)
