"""Image-text matching with feature fusion: what is matched, and the heads that say whether it does."""

from __future__ import annotations

import torch
from torch import nn

from .configuration_smke import SmkeConfig

__all__ = ["MatchingHeads", "sample_negatives"]


class MatchingHeads(nn.Module):
    r"""h_it = (h_v W_i + h_w W_t) W_cls + b_cls, on h' and on h'', each with its own weights.

    The thesis gives no width of the fused vector but the sum of the heads' parameters, 1.1M: with both layers that is
    a width of 144.

    Source: 004_3cb4412af0da3ec5.txt, equations (64) and (65).
    """

    def __init__(self, config: SmkeConfig) -> None:
        super().__init__()
        widths, fused = (config.intermediate_size, config.hidden_size), config.itm_size
        self.image = nn.ModuleList(nn.Linear(width, fused, bias=False) for width in widths)
        self.text = nn.ModuleList(nn.Linear(width, fused, bias=False) for width in widths)
        self.classifier = nn.ModuleList(nn.Linear(fused, 2) for _ in widths)

    def forward(
        self, image: tuple[torch.Tensor, torch.Tensor], text: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score pairs.

        Args:
            image: h' and h'' of the pictures, shapes ``(pairs, width)``.
            text: h' and h'' of the texts, row k belonging to picture k.

        Returns:
            Logits on h' and on h'', shape ``(pairs, 2)``: does not match, matches.
        """
        first, second = (self.classifier[at](self.image[at](image[at]) + self.text[at](text[at])) for at in (0, 1))
        return first, second


def sample_negatives(
    similarity: torch.Tensor, image_ids: torch.Tensor | None, hard: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a text that does not belong to each picture, and a picture that does not belong to each text.

    Args:
        similarity: of every picture with every text of the batch, divided by the temperature, ``(batch, batch)``.
        image_ids: which picture each row shows; rows of one picture are never negatives of each other.
        hard: the more alike, the likelier to be drawn (softmax of the similarity); else all alike.

    Returns:
        Row of a text for each picture, and row of a picture for each text, each ``(batch,)``.

    Raises:
        ValueError: a row has no negative at all.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.4.2; the similarity of the pair itself is set to 0 there, here its
        probability is.
    """
    batch = len(similarity)
    own = torch.eye(batch, dtype=torch.bool, device=similarity.device)
    if image_ids is not None:
        own = own | (image_ids.unsqueeze(1) == image_ids.unsqueeze(0))
    if bool(own.all(dim=1).any()):
        raise ValueError(
            f"A row of a batch of {batch} has no negative: every other row shows the same picture. Raise it."
        )
    similarity = similarity.detach().float()
    scores = similarity if hard else torch.zeros_like(similarity)

    def drawn(table: torch.Tensor) -> torch.Tensor:
        # float64, so that a row whose others are all far away still has a probability to draw from
        return torch.multinomial(table.double().masked_fill(own, float("-inf")).softmax(dim=1), 1).squeeze(1)

    return drawn(scores), drawn(scores.t())
