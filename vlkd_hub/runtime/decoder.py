"""The decoder graph and its key/value cache, one token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.bundle import GenerationSpec
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.context_rows import ContextRows, gather_rows

__all__ = ["CachedDecoder", "GreedyDecoder", "StepDecoder", "cache_names"]


class StepDecoder(Protocol):
    """A decoder that remembers what it has read: the ONNX graph with its cache, or a stand-in in tests."""

    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token a row, shape ``(rows,)``, and return the logits of the next, ``(rows, vocab)``."""

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Let row ``i`` go on from what row ``rows[i]`` has read; the number of rows may change."""

    def join(self, context: NDArray[np.float32], context_mask: NDArray[np.int64]) -> None:
        """Add rows that have read nothing yet, behind those that are there: ``(rows, tokens, width)``, with a mask."""


def cache_names(kind: str, num_layers: int) -> list[str]:
    """Names of a cache's tensors in the graphs: ``cross``, ``past`` or ``present``, key and value of each layer."""
    return [f"{kind}_{part}.{layer}" for layer in range(num_layers) for part in ("key", "value")]


class CachedDecoder:
    """Two ONNX sessions as a :class:`StepDecoder` over one batch of contexts.

    The keys and values of the context are computed once, here; each step then only reads one token. The cache goes
    from one step's outputs to the next one's inputs without a copy. Rows that join later have a past that is padding
    on the left, which ``past_mask`` tells the graph.

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
        self._cross_attention = cross_attention
        self._session = decoder
        self._contexts = ContextRows(cache_names("cross", spec.num_layers))
        self._read = np.zeros((0, 0), dtype=np.int64)  # 1 where a row's past is real, (rows, P)
        empty = np.zeros((0, spec.num_heads, 0, spec.head_dim), dtype=np.float32)
        self._past = dict.fromkeys(cache_names("past", spec.num_layers), empty)
        self.join(context, context_mask)

    def step(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :meth:`StepDecoder.step`."""
        logits, *present = self._session.run(None, self._feeds(token_ids))
        self._advance(present)
        last: NDArray[np.float32] = logits[:, -1]
        return last

    def join(self, context: NDArray[np.float32], context_mask: NDArray[np.int64]) -> None:
        """See :meth:`StepDecoder.join`."""
        if context.ndim != 3 or context_mask.shape != context.shape[:2]:
            raise InvalidInputError(
                f"Expected a context (batch, tokens, width) with a mask (batch, tokens), got {context.shape} and "
                f"{context_mask.shape}."
            )
        if not context_mask.any(axis=1).all():
            raise InvalidInputError("A row of the context is all padding: the decoder would have nothing to look at.")
        cross = self._cross_attention.run(None, {"context": np.ascontiguousarray(context, dtype=np.float32)})
        self._contexts.add(cross, context_mask)
        self._trim()
        count = len(context_mask)
        self._read = np.concatenate([self._read, np.zeros((count, self._read.shape[1]), np.int64)])
        self._past = {
            name: np.concatenate([array, np.zeros((count, *array.shape[1:]), np.float32)])
            for name, array in self._past.items()
        }

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See :meth:`StepDecoder.reorder`. Where rows only fill the places of others, no other row is copied."""
        self._contexts.reorder(rows)
        self._read = gather_rows(self._read, rows)
        self._past = {name: gather_rows(array, rows) for name, array in self._past.items()}

    def _feeds(self, token_ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        ids = np.ascontiguousarray(token_ids, dtype=np.int64)[:, None]
        return {"input_ids": ids, "past_mask": self._read, **self._contexts.feeds, **self._past}

    def _advance(self, present: Sequence[NDArray[np.float32]]) -> None:
        self._past = dict(zip(self._past, present, strict=True))
        self._read = np.concatenate([self._read, np.ones((len(self._read), 1), np.int64)], axis=1)

    def _trim(self) -> None:
        """Forget the oldest tokens where they are padding in every row."""
        width = self._read.shape[1]
        lead = int(self._read.any(axis=0).argmax()) if self._read.any() else width
        if lead:
            self._read = np.ascontiguousarray(self._read[:, lead:])
            self._past = {name: np.ascontiguousarray(array[:, :, lead:]) for name, array in self._past.items()}


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
        words, logits, rest, *present = self._greedy.run(None, self._feeds(token_ids))
        # The bound is rounded as all float32 is; what is nearer than that counts as not known.
        known = (logits > rest + 1e-4 * (1 + np.abs(rest))).sum(axis=1) >= 2
        if not known.all():
            return super().step(token_ids)
        self._advance(present)
        every = np.full((len(words), self._vocab_size), -np.inf, dtype=np.float32)
        np.put_along_axis(every, words, logits, axis=1)
        return every
