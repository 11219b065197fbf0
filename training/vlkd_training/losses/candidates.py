"""Cross-entropy of one candidate among many, those of the same picture left out."""

from __future__ import annotations

import torch
from torch import nn

from .gather import gather_rows, rank_and_world

__all__ = ["candidates_of", "choose_own"]

Bank = tuple[torch.Tensor, torch.Tensor]
"""Rows, ``(entries, dim)``, and the picture of each, ``(entries,)``."""


def candidates_of(
    rows: torch.Tensor, ids: torch.Tensor | None, bank: Bank | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Put the batch's rows of every process before a bank's.

    Args:
        rows: L2-normalised, shape ``(batch, dim)``; gathered with gradient.
        ids: the picture of each row, shape ``(batch,)``.
        bank: rows of earlier batches and their pictures; the same on every process, and no gradient flows into it.

    Returns:
        All candidates, ``(world * batch + entries, dim)``, and their pictures or ``None``.

    Raises:
        ValueError: a bank of another width, without a picture for each row, or beside a batch without ``ids``: another
            caption of the same picture could then not be left out.
    """
    candidates, every_id = gather_rows(rows), None if ids is None else gather_rows(ids)
    if bank is None:
        return candidates, every_id
    stored, stored_ids = bank
    if stored.dim() != 2 or stored.shape[1] != rows.shape[1] or stored_ids.shape != stored.shape[:1]:
        raise ValueError(
            f"The bank has rows {tuple(stored.shape)} and ids {tuple(stored_ids.shape)}; candidates of this batch are "
            f"(batch, {rows.shape[1]}), so the bank must be (entries, {rows.shape[1]}) and (entries,)."
        )
    if every_id is None:
        raise ValueError("A contrast with a bank needs image_ids, to leave entries of the same picture out.")
    return torch.cat([candidates, stored.detach().float()]), torch.cat([every_id, stored_ids])


def choose_own(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    scale: torch.Tensor | float,
    ids: torch.Tensor | None,
    candidate_ids: torch.Tensor | None,
) -> torch.Tensor:
    """Mean of -log softmax of each query's own candidate.

    Args:
        queries: rows of this process, L2-normalised, shape ``(batch, dim)``.
        candidates: of :func:`candidates_of`; those of this process's rows stand where its rank puts them.
        scale: 1 / temperature.
        ids: the picture of each query, shape ``(batch,)``.
        candidate_ids: the picture of each candidate; those of the query's picture, save its own, are left out.

    Raises:
        ValueError: there is one candidate (its softmax is always 1 and trains nothing).
    """
    if len(candidates) < 2:
        raise ValueError(
            "A contrastive loss needs at least 2 candidates, got 1: its softmax is always 1 and trains nothing. Raise "
            "the batch size, set dataloader_drop_last, or fill the bank first."
        )
    rank, _ = rank_and_world()
    batch = len(queries)
    own = torch.arange(rank * batch, (rank + 1) * batch, device=queries.device)
    logits = scale * queries @ candidates.t()  # (B, candidates)
    if ids is not None and candidate_ids is not None:
        same = ids.unsqueeze(1) == candidate_ids.unsqueeze(0)
        same[torch.arange(batch, device=own.device), own] = False
        logits = logits.masked_fill(same, float("-inf"))
    return nn.functional.cross_entropy(logits, own)
