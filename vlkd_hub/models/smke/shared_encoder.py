"""The shared encoder: SHRe's 3-layer MLP, or one Transformer block, used for pictures and for texts alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_smke import SmkeConfig

__all__ = ["SharedMlp", "SharedOutput", "SharedTransformer", "make_shared_encoder"]


@dataclass
class SharedOutput:
    """What the three linear layers say, raw: no activation, no normalisation.

    Attributes:
        layer1: h' of the class token, shape ``(batch, intermediate_size)``.
        layer2: h'' of the class token, shape ``(batch, hidden_size)``.
        layer3: h''' of the class token, shape ``(batch, head_size)``; None without a head.
        tokens2: h'' of every token, shape ``(batch, tokens, hidden_size)``, where asked for.
        tokens3: h''' of every token, shape ``(batch, tokens, head_size)``, where asked for and there is a head.
        attention: of the block, mean over heads, shape ``(batch, tokens, tokens)``, where asked for.
    """

    layer1: torch.Tensor
    layer2: torch.Tensor
    layer3: torch.Tensor | None = None
    tokens2: torch.Tensor | None = None
    tokens3: torch.Tensor | None = None
    attention: torch.Tensor | None = None


def make_shared_encoder(config: SmkeConfig) -> SharedMlp | SharedTransformer:
    """Build the one that ``config.shared`` names."""
    return SharedMlp(config) if config.shared == "mlp" else SharedTransformer(config)


class SharedMlp(nn.Module):
    r"""h' = h W_1 + b_1; h'' = LN(GELU(h')) W_2 + b_2; h''' = LN(h'') W_3 + b_3, on the class token.

    Source: 004_3cb4412af0da3ec5.txt, equations (43) and (44).
    """

    def __init__(self, config: SmkeConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.fc1 = nn.Linear(width, inner)
        self.norm1 = nn.LayerNorm(inner)
        self.fc2 = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width) if config.head_size else None
        self.head = nn.Linear(width, config.head_size) if config.head_size else None

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        tokens: bool = False,
        attention: bool = False,
    ) -> SharedOutput:
        """Encode the class token, shape ``(batch, tokens, hidden_size)``; with ``tokens`` every token by itself."""
        layer1, layer2, layer3 = self._layers(hidden if tokens else hidden[:, :1])
        return SharedOutput(
            layer1=layer1[:, 0],
            layer2=layer2[:, 0],
            layer3=None if layer3 is None else layer3[:, 0],
            tokens2=layer2 if tokens else None,
            tokens3=layer3 if tokens else None,
        )

    def _layers(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        layer1 = self.fc1(hidden)
        layer2 = self.fc2(self.norm1(nn.functional.gelu(layer1)))
        layer3 = None if self.head is None or self.norm2 is None else self.head(self.norm2(layer2))
        return layer1, layer2, layer3


class SharedTransformer(nn.Module):
    r"""H_mha = MHA(LN(H)) + H; H' = LN(H_mha) W_1 + b_1; H'' = LN(GELU(H')) W_2 + b_2; H_ln = LN(H'' + H_mha);
    h''' = h_ln W_3 + b_3.

    Where only the class token is wanted, only its query is computed: the other tokens are read through their keys and
    values and never need an output of their own.

    Source: 004_3cb4412af0da3ec5.txt, equations (50) to (52).
    """

    def __init__(self, config: SmkeConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.num_heads = config.num_attention_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.norm1 = nn.LayerNorm(inner)
        self.fc2 = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width) if config.head_size else None
        self.head = nn.Linear(width, config.head_size) if config.head_size else None

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        tokens: bool = False,
        attention: bool = False,
    ) -> SharedOutput:
        """Encode a sequence of one modality.

        Args:
            hidden: the encoder's output, class token first, shape ``(batch, tokens, hidden_size)``.
            attention_mask: 1 for tokens and 0 for padding, shape ``(batch, tokens)``.
            tokens: give every token's output too.
            attention: give the attention too.
        """
        normed = self.norm_attention(hidden)
        asked, carried = (normed, hidden) if tokens else (normed[:, :1], hidden[:, :1])
        mixed, weights = self._attend(asked, normed, attention_mask, attention)
        mixed = mixed + carried
        layer1 = self.fc1(self.norm_mlp(mixed))
        layer2 = self.fc2(self.norm1(nn.functional.gelu(layer1)))
        layer3 = None if self.head is None or self.norm2 is None else self.head(self.norm2(layer2 + mixed))
        return SharedOutput(
            layer1=layer1[:, 0],
            layer2=layer2[:, 0],
            layer3=None if layer3 is None else layer3[:, 0],
            tokens2=layer2 if tokens else None,
            tokens3=layer3 if tokens else None,
            attention=weights,
        )

    def _attend(
        self, asked: torch.Tensor, normed: torch.Tensor, attention_mask: torch.Tensor | None, wanted: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, _, width = normed.shape

        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.view(batch, -1, self.num_heads, width // self.num_heads).transpose(1, 2)  # (B, h, T, d)

        query = heads(self.query(asked))
        key, value = (heads(part) for part in self.key_value(normed).chunk(2, dim=-1))
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        weights = None
        if wanted:
            scores = query @ key.transpose(-1, -2) / (width // self.num_heads) ** 0.5
            scores = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            probabilities = scores.softmax(dim=-1)
            mixed, weights = probabilities @ value, probabilities.mean(dim=1)
        else:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, -1, width)), weights
