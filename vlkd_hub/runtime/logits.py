"""What may come next: the constraints of ``generation_config.json`` and the filters of sampling, on numpy logits.

Each function equals the logits processor of transformers with the same name, since the captions must be the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.runtime.generation_settings import GenerationSettings

__all__ = ["constrain", "has_constraint", "log_softmax", "warp"]

Scores = NDArray[np.float32]


def log_softmax(logits: Scores) -> Scores:
    """Log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    total: Scores = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return total


def constrain(sequences: NDArray[np.int64], scores: Scores, settings: GenerationSettings) -> Scores:
    """Rule tokens out, or in, in the order of transformers.

    Args:
        sequences: tokens so far, the start token included, shape ``(rows, length)``.
        scores: logits or log-probabilities of the next token, shape ``(rows, vocab)``; may be changed in place.
        settings: of this generation.

    Returns:
        Shape ``(rows, vocab)``, minus infinity for what may not come.
    """
    length = sequences.shape[1]
    if settings.no_repeat_ngram_size:
        _ban_repeats(sequences, scores, settings.no_repeat_ngram_size)
    if length < settings.min_length or length - 1 < settings.min_new_tokens:
        scores[:, settings.eos_token_id] = -np.inf
    if settings.forced_bos_token_id is not None and length == 1:
        scores = _only(scores, settings.forced_bos_token_id)
    if settings.forced_eos_token_id is not None and length == settings.max_new_tokens:
        scores = _only(scores, settings.forced_eos_token_id)
    return scores


def has_constraint(length: int, settings: GenerationSettings) -> bool:
    """Whether :func:`constrain` may rule a token out behind ``length`` tokens."""
    return bool(
        settings.no_repeat_ngram_size
        or length < settings.min_length
        or length - 1 < settings.min_new_tokens
        or (settings.forced_bos_token_id is not None and length == 1)
        or (settings.forced_eos_token_id is not None and length == settings.max_new_tokens)
    )


def _only(scores: Scores, token: int) -> Scores:
    forced = np.full_like(scores, -np.inf)
    forced[:, token] = 0
    return forced


def _ban_repeats(sequences: NDArray[np.int64], scores: Scores, size: int) -> None:
    """No group of ``size`` tokens may come twice in a row's text."""
    if sequences.shape[1] < size:
        return
    windows = np.lib.stride_tricks.sliding_window_view(sequences, size, axis=1)  # (rows, windows, size)
    prefix = sequences[:, sequences.shape[1] + 1 - size :]
    rows, places = np.nonzero((windows[..., :-1] == prefix[:, None]).all(axis=-1))
    scores[rows, windows[rows, places, -1]] = -np.inf


def warp(scores: Scores, settings: GenerationSettings) -> Scores:
    """Temperature, then top-k, then top-p, for sampling.

    Args:
        scores: logits, shape ``(rows, vocab)``.
        settings: of this generation.

    Returns:
        Shape ``(rows, vocab)``; tokens that fell out are minus infinity, one token a row always stays.
    """
    scores = scores / np.float32(settings.temperature)
    if settings.top_k:
        kept = min(settings.top_k, scores.shape[-1])
        lowest = np.partition(scores, -kept, axis=-1)[:, -kept, None]
        scores = np.where(scores < lowest, np.float32(-np.inf), scores)
    if settings.top_p < 1.0:
        order = np.argsort(scores, axis=-1, kind="stable")
        cumulative = np.cumsum(np.exp(log_softmax(np.take_along_axis(scores, order, axis=-1))), axis=-1)
        dropped = cumulative <= 1 - settings.top_p
        dropped[:, -1] = False
        mask = np.zeros_like(dropped)
        np.put_along_axis(mask, order, dropped, axis=-1)
        scores = np.where(mask, np.float32(-np.inf), scores)
    return scores
