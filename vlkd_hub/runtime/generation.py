"""From a context to tokens: greedy, sampled, or by beam search. The tokens are those of transformers' ``generate``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.runtime.beam_search import beam_search
from vlkd_hub.runtime.decoder import StepDecoder
from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.logits import Scores, constrain, log_softmax, warp

__all__ = ["choose", "generate", "until_end"]


def generate(decoder: StepDecoder, batch_size: int, settings: GenerationSettings) -> list[list[int]]:
    """Write one text for each row of the context that ``decoder`` holds.

    Args:
        decoder: has read nothing yet.
        batch_size: rows of its context.
        settings: how to choose.

    Returns:
        For each row the tokens after the start token, up to and with the end token where it came.
    """
    if settings.num_beams > 1:
        sequences = beam_search(decoder, batch_size, settings)
    else:
        sequences = _one_by_one(decoder, batch_size, settings)
    return [until_end(row, settings.eos_token_id) for row in sequences[:, 1:].tolist()]


def _one_by_one(decoder: StepDecoder, batch_size: int, settings: GenerationSettings) -> NDArray[np.int64]:
    """Greedy search or sampling; a row that has ended is filled up with padding. Returns ``(batch, length)``."""
    random = np.random.default_rng(settings.seed)
    sequences = np.full((batch_size, 1 + settings.max_new_tokens), settings.pad_token_id, dtype=np.int64)
    sequences[:, 0] = settings.decoder_start_token_id
    ended = np.zeros(batch_size, dtype=bool)
    for length in range(1, sequences.shape[1]):
        scores = constrain(sequences[:, :length], decoder.step(sequences[:, length - 1]), settings)
        sequences[:, length] = np.where(ended, settings.pad_token_id, choose(scores, settings, random))
        ended |= sequences[:, length] == settings.eos_token_id
        if ended.all():
            break
    return sequences[:, : length + 1]


def choose(scores: Scores, settings: GenerationSettings, random: np.random.Generator) -> NDArray[np.int64]:
    """The next token of each row, ``(rows, vocab)`` -> ``(rows,)``: the best one, or a sample where asked for."""
    return _sample(warp(scores, settings), random) if settings.do_sample else scores.argmax(axis=-1)


def _sample(scores: Scores, random: np.random.Generator) -> NDArray[np.int64]:
    """One token a row: the largest of log-probability plus Gumbel noise, which is a draw from the softmax."""
    noise = random.gumbel(size=scores.shape)
    chosen: NDArray[np.int64] = (log_softmax(scores) + noise).argmax(axis=-1)
    return chosen


def until_end(tokens: list[int], eos_token_id: int) -> list[int]:
    """The tokens up to and with the first end token."""
    return tokens[: tokens.index(eos_token_id) + 1] if eos_token_id in tokens else tokens
