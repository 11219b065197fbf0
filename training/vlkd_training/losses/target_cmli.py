"""Target-CMLI: the teacher's patches as targets of patches, and of the words that match them best."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from .guards import require_finite, require_same_shape
from .late_interaction import match_patches

__all__ = ["TargetCMLILoss"]


class TargetCMLILoss(nn.Module):
    r"""Regression of the teacher's patches by the picture and, through a match, by the text.

    L_i2t = sum_n ||h_v,n''' - h_t,n||^2 over the patches of the picture, equation (75);
    L_t2i = sum_z ||g(h_w,z''') - g(h_t,m_z)||^2 over the tokens of its text, (76), where m_z is the patch with the
    highest cosine to token z after g, and has no gradient; L_KD = 1/2 (L_i2t + L_t2i), (77).

    Both equations name themselves MSE(H, H_t) and then print a sum over n and z. The norm is a mean over the width by
    equation (1); the outer sum is read as a mean here, because a mean over steps is what MSE of two sequences is in
    (41), and because under (77) the thesis wants the loss to weigh as much as the contrast, which a sum over 196
    patches does not. ``reduction="sum"`` is the printed form. Either is taken for each picture and text, then averaged
    over the batch. The class token is in neither equation: give patches and words alone.

    (76) has g on both sides. Where g learns, g = 0 is a minimum of it alone; a caller who wants a fixed target detaches
    ``projected_patches``.

    Args:
        reduction: ``"mean"`` over patches and over tokens, or ``"sum"``.

    Raises:
        ValueError: the reduction is another word.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.5.2, equations (72) and (75)-(77).
    """

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(f"The reduction must be 'mean' or 'sum', got {reduction!r}.")
        self.reduction = reduction

    def forward(
        self,
        image_tokens: torch.Tensor,
        teacher_patches: torch.Tensor,
        projected_text: torch.Tensor,
        projected_patches: torch.Tensor,
        text_mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compare every patch, and every token with its patch.

        Args:
            image_tokens: h_v''' of the patches, shape ``(batch, patches, width)``.
            teacher_patches: h_t, shape ``(batch, patches, width)``; no gradient flows into it.
            projected_text: g(h_w''') of the tokens, shape ``(batch, tokens, small)``; 32 wide in the thesis.
            projected_patches: g(h_t), shape ``(batch, patches, small)``.
            text_mask: true at the tokens that count (see ``word_mask``), shape ``(batch, tokens)``; all if left out.

        Returns:
            ``kd_image`` and ``kd_text``, scalars, already weighted by 1/2. A text with no token that counts adds 0.

        Raises:
            ValueError: shapes do not fit, the teacher is not finite, or no token of the batch counts.
        """
        require_same_shape(
            "Patches", image_tokens, "the teacher's patches", teacher_patches, "(batch, patches, width)", 3
        )
        if projected_patches.shape[:-1] != teacher_patches.shape[:-1]:
            raise ValueError(
                f"Projected patches have shape {tuple(projected_patches.shape)} and the teacher's patches "
                f"{tuple(teacher_patches.shape)}; g changes the last axis alone."
            )
        require_finite("The teacher's patches", teacher_patches)
        words = self._words(text_mask, projected_text)
        found = match_patches(projected_patches, projected_text)  # (B, M)
        matched = projected_patches.gather(1, found.unsqueeze(2).expand(-1, -1, projected_patches.shape[2]))
        patches = torch.ones_like(image_tokens[..., 0], dtype=torch.bool)
        return {
            "kd_image": 0.5 * self._regress(image_tokens, teacher_patches.detach(), patches),
            "kd_text": 0.5 * self._regress(projected_text, matched, words),
        }

    def _words(self, text_mask: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
        if text_mask is None:
            return torch.ones_like(tokens[..., 0], dtype=torch.bool)
        if text_mask.shape != tokens.shape[:2]:
            raise ValueError(f"text_mask has shape {tuple(text_mask.shape)} for tokens of {tuple(tokens.shape)}.")
        if not text_mask.any():
            raise ValueError(f"No token counts in a batch of {len(tokens)} texts; are the captions empty?")
        return text_mask.bool()

    def _regress(self, tokens: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        errors = (tokens.float() - targets.float()).pow(2).mean(dim=-1).masked_fill(~mask, 0.0)  # (B, steps)
        total = errors.sum(dim=-1)
        return (total / mask.sum(dim=-1).clamp(min=1) if self.reduction == "mean" else total).mean()
