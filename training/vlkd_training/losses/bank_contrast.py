"""Image-text contrast against the batch and a memory bank."""

from __future__ import annotations

import torch
from torch import nn

from .candidates import Bank, candidates_of, choose_own
from .guards import require_same_shape

__all__ = ["BankContrastLoss"]


class BankContrastLoss(nn.Module):
    r"""Symmetric contrast of one layer with B + U - 1 negatives.

    L = (L_i2t + L_t2i) / 2 as in equations (27)-(29). The candidates of a picture are the captions of the batch, of
    every process and with gradient, and the caption rows of a bank (detached); those of a caption are the pictures and
    the picture rows of the other bank. Candidates of the query's own picture, save its own partner, are left out: the
    thesis has no need of that, since its queue never holds an example of the batch, but here a picture has several
    captions.

    Two uses. Without ``image_candidates`` and ``text_candidates`` the batch's own vectors are the candidates and the
    banks hold those of earlier steps (Tables 20 and 21). With them, vectors of the batch by the momentum encoder are
    all the candidates, the positive too, as in MoCo and ALBEF: the thesis follows these two, says that the negatives
    come "only from the momentum encoder", and leaves open where the positive comes from. They need no gradient.

    Source: 004_3cb4412af0da3ec5.txt, sections 1.5.3.2, 3.2.4.3 and 3.2.4.3.2.
    """

    def forward(
        self,
        image_embeds: torch.Tensor,
        text_embeds: torch.Tensor,
        logit_scale: torch.Tensor,
        image_ids: torch.Tensor | None = None,
        *,
        image_bank: Bank | None = None,
        text_bank: Bank | None = None,
        image_candidates: torch.Tensor | None = None,
        text_candidates: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Contrast the pairs of a batch.

        Args:
            image_embeds: the student's pictures, normalised here, shape ``(batch, dim)``.
            text_embeds: its captions; row k belongs to picture k.
            logit_scale: 1 / temperature, a scalar.
            image_ids: which picture each row shows, shape ``(batch,)``; needed with a bank.
            image_bank: picture rows and their ids, of ``MemoryBank.valid``; candidates of the captions.
            text_bank: caption rows and their ids; candidates of the pictures.
            image_candidates: the batch's pictures by the momentum encoder, shape ``(batch, dim)``.
            text_candidates: its captions by the momentum encoder.

        Returns:
            A scalar.

        Raises:
            ValueError: shapes differ, only one of the candidates or of the banks is there, ids are missing beside a
                bank, or there is a single candidate.
        """
        require_same_shape("Pictures", image_embeds, "captions", text_embeds, "(batch, dim)", 2)
        if (image_candidates is None) != (text_candidates is None):
            raise ValueError("Give the momentum vectors of both pictures and captions, or of neither.")
        if (image_bank is None) != (text_bank is None):
            raise ValueError("Give the banks of both pictures and captions, or neither: the contrast goes both ways.")
        images, texts = _normalized(image_embeds), _normalized(text_embeds)
        image_keys, text_keys = images, texts
        if image_candidates is not None and text_candidates is not None:
            require_same_shape("Momentum pictures", image_candidates, "pictures", image_embeds, "(batch, dim)", 2)
            require_same_shape("Momentum captions", text_candidates, "captions", text_embeds, "(batch, dim)", 2)
            image_keys, text_keys = _normalized(image_candidates.detach()), _normalized(text_candidates.detach())
        to_text = choose_own(images, *_with(text_keys, image_ids, text_bank, logit_scale))
        to_image = choose_own(texts, *_with(image_keys, image_ids, image_bank, logit_scale))
        return (to_text + to_image) / 2


def _with(
    keys: torch.Tensor, ids: torch.Tensor | None, bank: Bank | None, logit_scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """What :func:`choose_own` takes after the queries; the bank's rows are normalised like the rest."""
    if bank is not None:
        bank = (_normalized(bank[0]), bank[1])
    candidates, candidate_ids = candidates_of(keys, ids, bank)
    return candidates, logit_scale.float(), ids, candidate_ids


def _normalized(rows: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(rows.float(), dim=-1)
