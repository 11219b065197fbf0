"""Token-type embeddings: one vector a modality, added to each of its tokens."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

__all__ = ["TypeEmbedding"]


class TypeEmbedding(nn.Module):
    """t_type of one modality, with a LayerScale shared by both where one is given.

    H' = H + t_scale * t_type, equations (61) and (62); without a scale equations (58) and (59).

    Args:
        width: of a token.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def reset_parameters(self, std: float) -> None:
        """Start from random values, as every other embedding does."""
        nn.init.normal_(self.weight, std=std)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Add the vector to every token, shape ``(batch, tokens, width)``."""
        return tokens + (self.weight if scale is None else scale * self.weight)

    def add_to_output_of(self, module: nn.Module) -> None:
        """Let ``module`` return its tokens with the vector added: the place where a Transformer's input is made.

        A hook, so that no weight of a pretrained encoder changes its name.
        """
        module.register_forward_hook(functools.partial(_added, self))


def _added(embedding: TypeEmbedding, module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):  # BEiT returns the grid beside the tokens
        return (embedding(output[0]), *output[1:])
    return embedding(output)
