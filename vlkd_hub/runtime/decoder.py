"""The decoder graph and its key/value cache, one token at a time."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.bundle import GenerationSpec
from vlkd_hub.errors import InvalidInputError

__all__ = ["COMPACT_AT", "CachedDecoder", "GreedyDecoder", "StepDecoder", "cache_names"]

COMPACT_AT = 0.75
"""Rows that ended are cut out of the cache when at most this share is left: each cut copies what stays."""


class StepDecoder(Protocol):
    """A decoder that remembers what it has read: the ONNX graph with its cache, or a stand-in in tests."""

    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token a row, shape ``(rows,)``, and return the logits of the next, ``(rows, vocab)``."""

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Let row ``i`` go on from what row ``rows[i]`` has read; the number of rows may change."""


def cache_names(kind: str, num_layers: int) -> list[str]:
    """Names of a cache's tensors in the graphs: ``cross``, ``past`` or ``present``, key and value of each layer."""
    return [f"{kind}_{part}.{layer}" for layer in range(num_layers) for part in ("key", "value")]


class CachedDecoder:
    """Two ONNX sessions as a :class:`StepDecoder` over one batch of contexts.

    The keys and values of the context are computed once, here; each step then only reads one token. The cache goes
    from one step's outputs to the next one's inputs without a copy.

    Args:
        cross_attention: session ``context -> cross_key.*, cross_value.*``.
        decoder: session of the step.
        spec: shape of the cache.
        context: what the decoder looks at, shape ``(batch, tokens, width)``, float32.
        context_mask: 1 where ``context`` is real, shape ``(batch, tokens)``, int64.

    Raises:
        InvalidInputError: the shapes do not fit together, or a row of the context is all padding.
    """

    def __init__(
        self,
        cross_attention: Any,
        decoder: Any,
        spec: GenerationSpec,
        context: NDArray[np.float32],
        context_mask: NDArray[np.int64],
    ) -> None:
        if context.ndim != 3 or context_mask.shape != context.shape[:2]:
            raise InvalidInputError(
                f"Expected a context (batch, tokens, width) with a mask (batch, tokens), got {context.shape} and "
                f"{context_mask.shape}."
            )
        if not context_mask.any(axis=1).all():
            raise InvalidInputError("A row of the context is all padding: the decoder would have nothing to look at.")
        self._session = decoder
        self._mask = np.ascontiguousarray(context_mask, dtype=np.int64)
        cross = cross_attention.run(None, {"context": np.ascontiguousarray(context, dtype=np.float32)})
        self._cross = dict(zip(cache_names("cross", spec.num_layers), cross, strict=True))
        self._rows = np.arange(context.shape[0])
        empty = np.zeros((context.shape[0], spec.num_heads, 0, spec.head_dim), dtype=np.float32)
        self._past = dict.fromkeys(cache_names("past", spec.num_layers), empty)

    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :meth:`StepDecoder.step`."""
        feeds = {"input_ids": np.ascontiguousarray(token_ids, dtype=np.int64)[:, None], "context_mask": self._mask}
        logits, *present = self._session.run(None, feeds | self._cross | self._past)
        self._past = dict(zip(self._past, present, strict=True))
        last: NDArray[np.float32] = logits[:, -1]
        return last

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See :meth:`StepDecoder.reorder`. The context is gathered only where rows change their picture."""
        contexts = self._rows[rows]
        if not np.array_equal(contexts, self._rows):
            self._mask = self._mask[rows]
            self._cross = {name: array[rows] for name, array in self._cross.items()}
            self._rows = contexts
        self._past = {name: array[rows] for name, array in self._past.items()}


class GreedyDecoder(CachedDecoder):
    """A :class:`CachedDecoder` for greedy search: logits of the words that can be the largest, minus infinity else.

    The graph ``greedy_decoder`` gives logits for some words and a bound for all others. Where the two largest of them
    are not above that bound (two, since the end token may be forbidden), the ordinary graph is run: the token that
    greedy search takes is the same always.

    Args:
        greedy: session of ``greedy_decoder``.
        cross_attention, decoder, spec, context, context_mask: as of :class:`CachedDecoder`.
    """

    def __init__(
        self,
        greedy: Any,
        cross_attention: Any,
        decoder: Any,
        spec: GenerationSpec,
        context: NDArray[np.float32],
        context_mask: NDArray[np.int64],
    ) -> None:
        super().__init__(cross_attention, decoder, spec, context, context_mask)
        self._greedy = greedy
        self._vocab_size = spec.vocab_size

    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :meth:`StepDecoder.step`."""
        feeds = {"input_ids": np.ascontiguousarray(token_ids, dtype=np.int64)[:, None], "context_mask": self._mask}
        words, logits, rest, *present = self._greedy.run(None, feeds | self._cross | self._past)
        # The bound is rounded as all float32 is; what is nearer than that counts as not known.
        known = (logits > rest + 1e-4 * (1 + np.abs(rest))).sum(axis=1) >= 2
        if not known.all():
            return super().step(token_ids)
        self._past = dict(zip(self._past, present, strict=True))
        every = np.full((len(words), self._vocab_size), -np.inf, dtype=np.float32)
        np.put_along_axis(every, words, logits, axis=1)
        return every
