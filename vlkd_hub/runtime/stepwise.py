"""Generation one step at a time, for a server that lets finished texts leave and sends tokens as they come."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.runtime.beam_search import beam_steps
from vlkd_hub.runtime.decoder import COMPACT_AT, StepDecoder
from vlkd_hub.runtime.generation import choose, until_end
from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.logits import Scores, constrain

__all__ = ["Step", "Written", "generate_stepwise"]


@dataclass(frozen=True)
class Written:
    """One finished text.

    Args:
        tokens: without the start token, with the end token where it came.
        score: geometric mean of the tokens' probabilities, 0 to 1; None where it was not asked for.
    """

    tokens: list[int]
    score: float | None = None


@dataclass(frozen=True)
class Step:
    """What one step brought: a token for each open row (none by beam search), and the rows that are done."""

    tokens: dict[int, int] = field(default_factory=dict)
    finished: dict[int, Written] = field(default_factory=dict)


def generate_stepwise(
    decoder: StepDecoder,
    batch_size: int,
    settings: GenerationSettings,
    *,
    with_scores: bool = False,
    dropped: Collection[int] = (),
) -> Iterator[Step]:
    """Write the texts that :func:`vlkd_hub.runtime.generation.generate` writes, step by step.

    Args:
        decoder: has read nothing yet.
        batch_size: rows of its context.
        settings: how to choose.
        with_scores: compute the scores as well.
        dropped: rows that nobody waits for any more; the caller may add to it between two steps.

    Yields:
        One :class:`Step` a token position; rows are numbered as in the context.
    """
    if settings.num_beams > 1:
        yield from _by_beams(decoder, batch_size, settings, dropped)
    else:
        yield from _one_by_one(decoder, batch_size, settings, with_scores, dropped)


def _by_beams(
    decoder: StepDecoder, batch_size: int, settings: GenerationSettings, dropped: Collection[int]
) -> Iterator[Step]:
    """Scores come with the search; tokens only at the end of a text, since another beam may overtake the best one."""
    for done in beam_steps(decoder, batch_size, settings, dropped):
        finished = {}
        for row, (sequence, score) in done.items():
            text = until_end(sequence[1:].tolist(), settings.eos_token_id)
            finished[row] = Written(text, _mean(score, settings, len(text)))
        yield Step(finished=finished)


def _one_by_one(
    decoder: StepDecoder, batch_size: int, settings: GenerationSettings, with_scores: bool, dropped: Collection[int]
) -> Iterator[Step]:
    random = np.random.default_rng(settings.seed)
    rows = np.arange(batch_size)  # the context row that each row of the decoder belongs to
    sequences = np.full((batch_size, 1), settings.decoder_start_token_id, dtype=np.int64)
    log_probs = np.zeros(batch_size)
    open_rows = np.ones(batch_size, dtype=bool)
    for length in range(1, settings.max_new_tokens + 1):
        scores = constrain(sequences, decoder.step(sequences[:, -1]), settings)
        chosen = np.where(open_rows, choose(scores, settings, random), settings.pad_token_id)
        if with_scores:
            log_probs += np.where(open_rows, _log_prob(scores, chosen), 0.0)
        sequences = np.concatenate([sequences, chosen[:, None]], axis=1)
        ended = open_rows & ((chosen == settings.eos_token_id) | (length == settings.max_new_tokens))
        finished = {
            int(rows[at]): Written(
                sequences[at, 1:].tolist(), math.exp(log_probs[at] / length) if with_scores else None
            )
            for at in np.flatnonzero(ended)
        }
        yield Step({int(rows[at]): int(chosen[at]) for at in np.flatnonzero(open_rows)}, finished)
        open_rows = open_rows & ~ended & ~np.isin(rows, list(dropped))
        if not open_rows.any():
            return
        if open_rows.sum() <= COMPACT_AT * len(open_rows):
            kept = np.flatnonzero(open_rows)
            decoder.reorder(kept)
            rows, sequences, log_probs = rows[kept], sequences[kept], log_probs[kept]
            open_rows = np.ones(len(kept), dtype=bool)


def _log_prob(scores: Scores, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-probability of one token a row, shape ``(rows,)``. A row at a time: it stays in the processor's cache."""
    highest = scores.max(axis=-1)
    sums = np.empty(len(scores), dtype=scores.dtype)
    shifted = np.empty(scores.shape[1], dtype=scores.dtype)
    for row, values in enumerate(scores):
        np.subtract(values, highest[row], out=shifted)
        sums[row] = np.exp(shifted, out=shifted).sum()
    total = np.log(sums) + highest
    return np.asarray(scores[np.arange(len(chosen)), chosen] - total, dtype=np.float64)


def _mean(score: float, settings: GenerationSettings, length: int) -> float:
    """A beam's score is its log-probability over ``length ** length_penalty``."""
    return math.exp(min(0.0, score * length**settings.length_penalty / max(1, length)))
