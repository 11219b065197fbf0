"""Generation one step at a time, for a server that lets finished texts leave and sends tokens as they come."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.beam_search import beam_steps
from vlkd_hub.runtime.context_rows import Context, order_of_places, pad_contexts
from vlkd_hub.runtime.decoder import StepDecoder
from vlkd_hub.runtime.generation import choose, until_end
from vlkd_hub.runtime.generation_settings import GenerationSettings
from vlkd_hub.runtime.logits import Scores, constrain, has_constraint

__all__ = ["Step", "StepwiseTexts", "Written", "generate_stepwise"]

SCORED_ROWS = 8
"""Of 30,000 words: a megabyte."""


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


class StepwiseTexts(Protocol):
    """Texts that are being written: an iterator of :class:`Step`, one a token position."""

    def __iter__(self) -> Iterator[Step]: ...

    def __next__(self) -> Step: ...

    @property
    def joinable(self) -> bool:
        """Whether :meth:`join` can be asked: a text then comes out the same with any company."""

    def join(self, contexts: Sequence[Context]) -> None:
        """Begin more texts; their rows are numbered on from those that began before.

        Args:
            contexts: what the decoder looks at.

        Raises:
            InvalidInputError: these texts are not joinable.
        """


def generate_stepwise(
    decoder: StepDecoder,
    batch_size: int,
    settings: GenerationSettings,
    *,
    with_scores: bool = False,
    dropped: Collection[int] = (),
) -> StepwiseTexts:
    """Write the texts that :func:`vlkd_hub.runtime.generation.generate` writes, step by step.

    Of samples that is true for one text alone: of several, those that ended draw no more.

    Args:
        decoder: has read nothing yet.
        batch_size: rows of its context.
        settings: how to choose.
        with_scores: compute the scores as well.
        dropped: rows that nobody waits for any more; the caller may change it between two steps, and what was in it at
            one of them stays away.

    Returns:
        Texts that are written as they are asked for; rows are numbered as in the context.
    """
    if settings.num_beams > 1:
        return _BeamTexts(decoder, batch_size, settings, dropped)
    return _OpenTexts(decoder, batch_size, settings, with_scores, dropped)


class _BeamTexts:
    """Beam search: scores come with it; tokens only at the end of a text, since another beam may overtake the best."""

    joinable = False

    def __init__(
        self, decoder: StepDecoder, batch_size: int, settings: GenerationSettings, dropped: Collection[int]
    ) -> None:
        self._settings = settings
        self._steps = beam_steps(decoder, batch_size, settings, dropped)

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        finished = {}
        for row, (sequence, score) in next(self._steps).items():
            text = until_end(sequence[1:].tolist(), self._settings.eos_token_id)
            finished[row] = Written(text, _mean(score, self._settings, len(text)))
        return Step(finished=finished)

    def join(self, contexts: Sequence[Context]) -> None:
        """Never possible."""
        raise InvalidInputError("Texts cannot join a beam search: all its beams are of equal length.")


class _OpenTexts:
    """Greedy search or sampling, each row at a position of its own: a row that ends leaves before the next step."""

    def __init__(
        self,
        decoder: StepDecoder,
        batch_size: int,
        settings: GenerationSettings,
        with_scores: bool,
        dropped: Collection[int],
    ) -> None:
        self._decoder = decoder
        self._settings = settings
        self._with_scores = with_scores
        self._dropped = dropped
        self._random = np.random.default_rng(settings.seed)
        self._begun = 0
        self._numbers: list[int] = []
        self._texts: list[list[int]] = []
        self._log_probs: list[float] = []
        self._begin(batch_size)

    @property
    def joinable(self) -> bool:
        """Samples are drawn for all rows from one source, so they depend on the company."""
        return not self._settings.do_sample

    def join(self, contexts: Sequence[Context]) -> None:
        """See :meth:`StepwiseTexts.join`."""
        if not self.joinable:
            raise InvalidInputError("Texts that are sampled cannot be joined: their draws depend on the other rows.")
        self._leave()
        self._decoder.join(*pad_contexts(contexts))
        self._begin(len(contexts))

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        self._leave()
        if not self._numbers:
            raise StopIteration
        scores = self._constrained(self._decoder.step(np.array([text[-1] for text in self._texts])))
        chosen = choose(scores, self._settings, self._random)
        if self._with_scores:
            self._log_probs = [a + float(b) for a, b in zip(self._log_probs, _log_prob(scores, chosen), strict=True)]
        tokens = dict(zip(self._numbers, chosen.tolist(), strict=True))
        for text, token in zip(self._texts, tokens.values(), strict=True):
            text.append(token)
        ended = [row for row in range(len(self._texts)) if self._has_ended(row)]
        return Step(tokens, {self._numbers[row]: self._written(row) for row in ended})

    def _begin(self, count: int) -> None:
        self._numbers += range(self._begun, self._begun + count)
        self._begun += count
        self._texts += [[self._settings.decoder_start_token_id] for _ in range(count)]
        self._log_probs += [0.0] * count

    def _has_ended(self, row: int) -> bool:
        text = self._texts[row]
        return len(text) > 1 and (text[-1] == self._settings.eos_token_id or len(text) > self._settings.max_new_tokens)

    def _written(self, row: int) -> Written:
        text = self._texts[row][1:]
        return Written(text, math.exp(self._log_probs[row] / len(text)) if self._with_scores else None)

    def _leave(self) -> None:
        """Take out the rows that ended or were dropped; the last ones take their places."""
        rows = range(len(self._numbers))
        open_rows = [row for row in rows if not self._has_ended(row) and self._numbers[row] not in self._dropped]
        if len(open_rows) == len(self._numbers):
            return
        kept = order_of_places(open_rows)
        self._numbers = [self._numbers[row] for row in kept]
        self._texts = [self._texts[row] for row in kept]
        self._log_probs = [self._log_probs[row] for row in kept]
        self._decoder.reorder(np.array(kept, dtype=np.int64))

    def _constrained(self, scores: Scores) -> Scores:
        """:func:`constrain` for rows of different lengths."""
        if len({len(text) for text in self._texts}) == 1:
            return constrain(np.array(self._texts), scores, self._settings)
        for row, text in enumerate(self._texts):
            if has_constraint(len(text), self._settings):
                one = scores[row : row + 1]
                one[:] = constrain(np.array([text]), one, self._settings)
        return scores


def _log_prob(scores: Scores, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-probability of one token a row, shape ``(rows,)``.

    A few rows at a time: they stay in the processor's cache, and a server's other threads are not woken for each row.
    """
    highest = scores.max(axis=-1)
    sums = np.empty(len(scores), dtype=scores.dtype)
    shifted = np.empty((SCORED_ROWS, scores.shape[1]), dtype=scores.dtype)
    for start in range(0, len(scores), SCORED_ROWS):
        at = slice(start, start + SCORED_ROWS)
        some = shifted[: len(scores[at])]
        np.subtract(scores[at], highest[at, None], out=some)
        np.exp(some, out=some).sum(axis=-1, out=sums[at])
    total = np.log(sums) + highest
    return np.asarray(scores[np.arange(len(chosen)), chosen] - total, dtype=np.float64)


def _mean(score: float, settings: GenerationSettings, length: int) -> float:
    """A beam's score is its log-probability over ``length ** length_penalty``."""
    return math.exp(min(0.0, score * length**settings.length_penalty / max(1, length)))
