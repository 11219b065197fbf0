"""Beam search with the choices of transformers' ``generate``, on numpy arrays.

Source: ``GenerationMixin._beam_search`` of transformers 5, whose order of operations decides which beams survive: each
step ranks two continuations per beam, those that ended compete for the finished places, the others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.runtime.decoder import StepDecoder
from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.logits import Scores, constrain, log_softmax

__all__ = ["beam_search", "beam_steps"]

WORST = np.float32(-1.0e9)
COMPACT_AT = 0.75
"""Pictures that are done are cut out of the cache when at most this share is left: each cut copies what stays."""


@dataclass
class _Beams:
    """Sequences with their scores, for every picture: ``(batch, beams, max length)`` and ``(batch, beams)``."""

    sequences: NDArray[np.int64]
    scores: Scores

    def only(self, rows: NDArray[np.bool_]) -> _Beams:
        """Some of the pictures."""
        return _Beams(self.sequences[rows], self.scores[rows])


def beam_search(decoder: StepDecoder, batch_size: int, settings: GenerationSettings) -> NDArray[np.int64]:
    """Return the best sequence of each row, shape ``(batch, length)``, the start token first, padded behind its end.

    Args:
        decoder: has read nothing yet; its rows are multiplied here, ``num_beams`` for each.
        batch_size: rows of its context.
        settings: how to choose.
    """
    found = {row: sequence for step in beam_steps(decoder, batch_size, settings) for row, (sequence, _) in step.items()}
    longest = max(map(len, found.values()))
    texts = np.full((batch_size, longest), settings.pad_token_id, dtype=np.int64)
    for row, sequence in found.items():
        texts[row, : len(sequence)] = sequence
    return texts


def beam_steps(
    decoder: StepDecoder, batch_size: int, settings: GenerationSettings, dropped: Collection[int] = ()
) -> Iterator[dict[int, tuple[NDArray[np.int64], float]]]:
    """The search of :func:`beam_search`, step by step.

    A row is done as soon as no beam of its own can win any more, whatever the others still do: from then on
    transformers' search carries its result along unchanged. It leaves the decoder.

    Args:
        decoder: see :func:`beam_search`.
        batch_size: see :func:`beam_search`.
        settings: see :func:`beam_search`.
        dropped: rows that nobody waits for any more; the caller may add to it between two steps.

    Yields:
        Of each row that is done its sequence, shape ``(length,)``, the start token first, and its score: the
        log-probability over ``length ** length_penalty``.
    """
    beams, max_length = settings.num_beams, 1 + settings.max_new_tokens
    decoder.reorder(np.repeat(np.arange(batch_size), beams))
    start = np.full((batch_size, beams, max_length), settings.pad_token_id, dtype=np.int64)
    start[..., 0] = settings.decoder_start_token_id
    # Only the first beam may be continued at first, or all beams would be the same.
    running_scores = np.full((batch_size, beams), WORST)
    running_scores[:, 0] = 0
    running = _Beams(start, running_scores)
    finished = _Beams(start.copy(), np.full((batch_size, beams), WORST))
    is_finished = np.zeros((batch_size, beams), dtype=bool)
    may_improve = np.ones((batch_size, 1), dtype=bool)
    numbers = np.arange(batch_size)  # the context row that each row here belongs to
    open_rows = np.ones(batch_size, dtype=bool)
    for length in range(1, max_length):
        candidates, origins = _continue(decoder, running, length, settings)
        ends = (candidates.sequences[..., length] == settings.eos_token_id) | (length + 1 == max_length)
        running, kept = _running(candidates, ends, beams)
        is_finished = _finish(finished, is_finished, candidates, ends, may_improve, length, settings)
        may_improve = may_improve & _may_improve(running, finished, is_finished, length + 1, max_length, settings)
        full = is_finished.all(axis=1) if settings.early_stopping is True else np.zeros(len(numbers), dtype=bool)
        done = open_rows & (~may_improve[:, 0] | full | ends.all(axis=1))
        yield {
            int(numbers[row]): (finished.sequences[row, 0, : length + 1], float(finished.scores[row, 0]))
            for row in np.flatnonzero(done)
        }
        open_rows = open_rows & ~done & ~np.isin(numbers, list(dropped))
        if not open_rows.any():
            return
        rows = np.take_along_axis(origins, kept, axis=1) + np.arange(len(numbers))[:, None] * beams
        if open_rows.sum() <= COMPACT_AT * len(open_rows):
            rows, numbers = rows[open_rows], numbers[open_rows]
            running, finished = running.only(open_rows), finished.only(open_rows)
            is_finished, may_improve = is_finished[open_rows], may_improve[open_rows]
            open_rows = np.ones(len(numbers), dtype=bool)
        decoder.reorder(rows.reshape(-1))


def _continue(
    decoder: StepDecoder, running: _Beams, length: int, settings: GenerationSettings
) -> tuple[_Beams, NDArray[np.int64]]:
    """The ``2 * beams`` best continuations, best first, and the beam that each one continues."""
    batch_size, beams, max_length = running.sequences.shape
    flat = running.sequences.reshape(-1, max_length)[:, :length]
    scores = constrain(flat, log_softmax(decoder.step(flat[:, -1])), settings)
    vocab = scores.shape[-1]
    total: Scores = (scores.reshape(batch_size, beams, vocab) + running.scores[..., None]).reshape(batch_size, -1)
    best = _top(total, 2 * beams)
    origins = best // vocab
    sequences = np.take_along_axis(running.sequences, origins[..., None], axis=1)
    sequences[..., length] = best % vocab
    return _Beams(sequences, np.take_along_axis(total, best, axis=1)), origins


def _running(candidates: _Beams, ends: NDArray[np.bool_], beams: int) -> tuple[_Beams, NDArray[np.int64]]:
    """The best candidates that have not ended, and their places among the candidates."""
    scores: Scores = candidates.scores + ends.astype(np.float32) * WORST
    kept = _top(scores, beams)
    sequences = np.take_along_axis(candidates.sequences, kept[..., None], axis=1)
    return _Beams(sequences, np.take_along_axis(scores, kept, axis=1)), kept


def _finish(
    finished: _Beams,
    is_finished: NDArray[np.bool_],
    candidates: _Beams,
    ends: NDArray[np.bool_],
    may_improve: NDArray[np.bool_],
    length: int,
    settings: GenerationSettings,
) -> NDArray[np.bool_]:
    """Let the candidates that ended now compete for the finished places (changed in place); which are taken."""
    beams = settings.num_beams
    just_ended = ends & (np.arange(2 * beams) < beams)
    scores = candidates.scores / np.float32(length**settings.length_penalty)
    if settings.early_stopping is True:
        scores = scores + is_finished.all(axis=1, keepdims=True) * WORST
    scores = scores + ~may_improve * WORST + ~just_ended * WORST
    merged = np.concatenate([finished.scores, scores], axis=1)
    best = _top(merged, beams)
    sequences = np.concatenate([finished.sequences, candidates.sequences], axis=1)
    finished.sequences = np.take_along_axis(sequences, best[..., None], axis=1)
    finished.scores = np.take_along_axis(merged, best, axis=1)
    return np.take_along_axis(np.concatenate([is_finished, just_ended], axis=1), best, axis=1)


def _may_improve(
    running: _Beams,
    finished: _Beams,
    is_finished: NDArray[np.bool_],
    length: int,
    max_length: int,
    settings: GenerationSettings,
) -> NDArray[np.bool_]:
    """Whether the best open beam of a row could still beat its worst finished one, shape ``(batch, 1)``."""
    longest = settings.early_stopping == "never" and settings.length_penalty > 0.0
    best_length = (max_length if longest else length) - 1
    best = running.scores[:, :1] / np.float32(best_length**settings.length_penalty)
    worst = np.where(is_finished, finished.scores.min(axis=1, keepdims=True), WORST)
    return np.asarray((best > worst).any(axis=-1, keepdims=True))


def _top(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Places of the ``count`` largest values of each row, largest first, the earlier of two equal ones first."""
    lowest = np.partition(scores, -count, axis=1)[:, -count]
    return np.stack([_top_of_row(row, bound, count) for row, bound in zip(scores, lowest, strict=True)])


def _top_of_row(row: NDArray[np.floating], lowest: np.floating, count: int) -> NDArray[np.int64]:
    """Sort only what is among the largest: a whole vocabulary times the beams is slow to sort."""
    places = np.concatenate([np.flatnonzero(row > lowest), np.flatnonzero(row == lowest)[:count]])
    return places[np.argsort(-row[places], kind="stable")][:count]
