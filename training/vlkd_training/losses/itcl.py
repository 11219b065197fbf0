"""Image-text contrastive learning: symmetric InfoNCE."""

from __future__ import annotations

import torch
from torch import nn

from .gather import gather_rows, rank_and_world

__all__ = ["ITCLLoss"]


class ITCLLoss(nn.Module):
    r"""Symmetric InfoNCE between pictures and texts.

    L_i2t = -1/B sum_k log exp(v_k . e_k / tau) / sum_j exp(v_k . e_j / tau), L_t2i likewise over pictures, and
    L_ITCL = (L_i2t + L_t2i) / 2. Candidates that describe the same picture as the positive are left out of the
    denominator when ``image_ids`` are given, since a batch may hold two captions of one picture.

    Under distributed training the candidates are those of every process, gathered with gradient, and each process
    scores its own rows; the mean over processes is the loss of the whole batch.

    Args:
        label_smoothing: share of the target spread over the candidates; 0 is the paper's loss.

    Source: 002_330011b7ef9ac362.txt, section 3.2.2.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(
        self,
        image_embeds: torch.Tensor,
        text_embeds: torch.Tensor,
        logit_scale: torch.Tensor,
        image_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Contrast the pairs of a batch.

        Args:
            image_embeds: v_cls, L2-normalised, shape ``(batch, dim)``.
            text_embeds: e_norm, L2-normalised, shape ``(batch, dim)``; row k belongs to picture k.
            logit_scale: 1 / tau, a scalar.
            image_ids: which picture each row shows, shape ``(batch,)``.

        Returns:
            A scalar.

        Raises:
            ValueError: the shapes differ, or the batch holds one pair (a softmax over one candidate trains nothing).
        """
        if image_embeds.shape != text_embeds.shape:
            raise ValueError(
                f"Pictures have shape {tuple(image_embeds.shape)} and texts {tuple(text_embeds.shape)}; "
                "both must be (batch, dim), row k of one belonging to row k of the other."
            )
        batch = image_embeds.shape[0]
        rank, world = rank_and_world()
        if batch * world < 2:
            raise ValueError(
                f"A contrastive loss needs at least 2 pairs in a batch, got {batch}: its softmax over one candidate "
                "is always 1 and trains nothing. Raise the batch size or set dataloader_drop_last."
            )
        scale, images, texts = logit_scale.float(), image_embeds.float(), text_embeds.float()
        if world == 1:
            logits = scale * images @ texts.t()  # (B, B)
            to_text, to_image = logits, logits.t()
            every_id = image_ids
        else:
            to_text = scale * images @ gather_rows(texts).t()  # (B, world B)
            to_image = scale * texts @ gather_rows(images).t()
            every_id = None if image_ids is None else gather_rows(image_ids)
        positive = torch.arange(rank * batch, (rank + 1) * batch, device=images.device)
        if image_ids is not None:
            same = image_ids.unsqueeze(1) == every_id.unsqueeze(0)
            same[torch.arange(batch), positive] = False
            to_text, to_image = (way.masked_fill(same, float("-inf")) for way in (to_text, to_image))
        return (self._one_way(to_text, positive) + self._one_way(to_image, positive)) / 2

    def _one_way(self, logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the positives; the smoothed share goes to the candidates that were not left out."""
        log_probabilities = logits.log_softmax(dim=-1)
        chosen = -log_probabilities.gather(1, positive.unsqueeze(1)).mean()
        if self.label_smoothing == 0:
            return chosen
        left_out = logits == float("-inf")
        uniform = -log_probabilities.masked_fill(left_out, 0.0).sum(dim=-1) / (~left_out).sum(dim=-1)
        return (1 - self.label_smoothing) * chosen + self.label_smoothing * uniform.mean()
