"""Cross-modal late interaction: how well patches and words of a picture and a text find each other."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["match_patches", "score_all_pairs", "score_pairs", "word_mask"]


def word_mask(attention_mask: torch.Tensor) -> torch.Tensor:
    """Mark the tokens that count in a text: neither padding nor the first and last token, [T_CLS] and [EOS].

    Args:
        attention_mask: 1 or true where there is no padding, on either side, shape ``(batch, tokens)``.

    Returns:
        Booleans, shape ``(batch, tokens)``; all false for a text of two tokens or fewer.

    Raises:
        ValueError: the mask has another number of axes.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.5.1: padding, class token and end of sequence are excluded.
    """
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask must be (batch, tokens), got {tuple(attention_mask.shape)}.")
    real = attention_mask.bool()
    seen = real.int().cumsum(dim=1)  # 1 at the first real token, the length at the last
    return real & (seen > 1) & (seen < seen[:, -1:])


def match_patches(
    image_tokens: torch.Tensor, text_tokens: torch.Tensor, image_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """m_j^t2i: the patch with the highest cosine to each token of its own text, equation (72).

    Args:
        image_tokens: h_v of the patches, shape ``(batch, patches, dim)``.
        text_tokens: h_w of the tokens, shape ``(batch, tokens, dim)``.
        image_mask: true at the patches that count, shape ``(batch, patches)``; all if left out.

    Returns:
        Indices of patches, the first of equals, shape ``(batch, tokens)``; no gradient. A padding token gets one too.

    Raises:
        ValueError: shapes do not fit, or a picture has no patch that counts.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.5.1, equation (72).
    """
    _check(image_tokens, text_tokens, paired=True)
    patches = _mask("image_mask", image_mask, image_tokens)
    return _cosines_of_pairs(image_tokens, text_tokens).masked_fill(~patches.unsqueeze(2), -torch.inf).argmax(dim=1)


def score_pairs(
    image_tokens: torch.Tensor,
    text_tokens: torch.Tensor,
    image_mask: torch.Tensor | None = None,
    text_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """s^i2t and s^t2i of each picture with its own text, equations (71)-(74).

    Equations print dot products and the text calls them cosine similarities: tokens are L2-normalised here. The token
    that wins an argmax gets the gradient, the argmax itself has none.

    Args:
        image_tokens: h_v of the patches, shape ``(batch, patches, dim)``.
        text_tokens: h_w of the tokens, shape ``(batch, tokens, dim)``.
        image_mask: true at the patches that count (no class token), shape ``(batch, patches)``; all if left out.
        text_mask: true at the tokens that count (see ``word_mask``), shape ``(batch, tokens)``; all if left out.

    Returns:
        Mean over patches of the best token's cosine, and mean over tokens of the best patch's, each ``(batch,)``.

    Raises:
        ValueError: shapes do not fit, or a picture or a text has nothing that counts.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.5, equations (71)-(74).
    """
    _check(image_tokens, text_tokens, paired=True)
    patches, words = _mask("image_mask", image_mask, image_tokens), _mask("text_mask", text_mask, text_tokens)
    cosines = _cosines_of_pairs(image_tokens, text_tokens)  # (B, N, M)
    best_word = cosines.masked_fill(~words.unsqueeze(1), -torch.inf).max(dim=2).values  # (B, N)
    best_patch = cosines.masked_fill(~patches.unsqueeze(2), -torch.inf).max(dim=1).values  # (B, M)
    return _masked_mean(best_word, patches), _masked_mean(best_patch, words)


def score_all_pairs(
    image_tokens: torch.Tensor,
    text_tokens: torch.Tensor,
    image_mask: torch.Tensor | None = None,
    text_mask: torch.Tensor | None = None,
    max_elements: int = 2**24,
) -> tuple[torch.Tensor, torch.Tensor]:
    """s^i2t and s^t2i of every picture with every text, equations (71)-(74), a block of pairs at a time.

    All cosines at once are ``pictures x texts x patches x tokens`` numbers, which is why the thesis did not train with
    this. Here at most ``max_elements`` of them exist at a time, 64 MiB in float32; with gradients only the winners'
    indices are kept, ``pictures x texts x (patches + tokens)``. Masks and normalisation as in ``score_pairs``.

    Args:
        image_tokens: shape ``(pictures, patches, dim)``.
        text_tokens: shape ``(texts, tokens, dim)``.
        image_mask: shape ``(pictures, patches)``.
        text_mask: shape ``(texts, tokens)``.
        max_elements: cosines held at a time; one pair is always computed whole.

    Returns:
        s^i2t and s^t2i, each ``(pictures, texts)``.

    Raises:
        ValueError: shapes do not fit, a picture or a text has nothing that counts, or ``max_elements`` is below 1.

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.5, equations (71)-(74).
    """
    _check(image_tokens, text_tokens, paired=False)
    if max_elements < 1:
        raise ValueError(f"max_elements must be at least 1, got {max_elements}.")
    patches, words = _mask("image_mask", image_mask, image_tokens), _mask("text_mask", text_mask, text_tokens)
    images, texts = (nn.functional.normalize(tokens.float(), dim=-1) for tokens in (image_tokens, text_tokens))
    pairs = max(1, max_elements // (images.shape[1] * texts.shape[1]))
    some_texts = min(len(texts), pairs)
    some_images = max(1, pairs // some_texts)
    rows = [
        [
            _block(*image_part, *text_part)
            for text_part in zip(texts.split(some_texts), words.split(some_texts), strict=True)
        ]
        for image_part in zip(images.split(some_images), patches.split(some_images), strict=True)
    ]
    to_text, to_image = (torch.cat([torch.cat([block[way] for block in row], 1) for row in rows]) for way in (0, 1))
    return to_text, to_image


def _block(
    images: torch.Tensor, patches: torch.Tensor, texts: torch.Tensor, words: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both scores of some pictures with some texts, ``(P, T)`` each."""
    cosines = (images.flatten(0, 1) @ texts.flatten(0, 1).t()).view(*images.shape[:2], *texts.shape[:2])  # (P, N, T, M)
    best_word = cosines.masked_fill(~words, -torch.inf).max(dim=3).values.transpose(1, 2)  # (P, T, N)
    best_patch = cosines.masked_fill(~patches[:, :, None, None], -torch.inf).max(dim=1).values  # (P, T, M)
    return _masked_mean(best_word, patches.unsqueeze(1)), _masked_mean(best_patch, words)


def _cosines_of_pairs(image_tokens: torch.Tensor, text_tokens: torch.Tensor) -> torch.Tensor:
    images, texts = (nn.functional.normalize(tokens.float(), dim=-1) for tokens in (image_tokens, text_tokens))
    return images @ texts.transpose(1, 2)  # (B, N, M)


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return values.masked_fill(~mask, 0.0).sum(dim=-1) / mask.sum(dim=-1)


def _check(image_tokens: torch.Tensor, text_tokens: torch.Tensor, paired: bool) -> None:
    shapes = f"{tuple(image_tokens.shape)} and {tuple(text_tokens.shape)}"
    if image_tokens.dim() != 3 or text_tokens.dim() != 3 or image_tokens.shape[2] != text_tokens.shape[2]:
        raise ValueError(f"Patches and tokens must be (batch, patches, dim) and (batch, tokens, dim), got {shapes}.")
    if paired and len(image_tokens) != len(text_tokens):
        raise ValueError(f"Each picture needs its own text, row k to row k; got {shapes}.")


def _mask(name: str, mask: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    if mask.shape != tokens.shape[:2]:
        raise ValueError(f"{name} has shape {tuple(mask.shape)} for tokens of shape {tuple(tokens.shape)}.")
    mask = mask.bool()
    empty = (~mask.any(dim=1)).nonzero()
    if len(empty):
        raise ValueError(
            f"{name} leaves nothing in row {int(empty[0])}: no token but class, end and padding, so it has no score. "
            "Leave such rows out."
        )
    return mask
