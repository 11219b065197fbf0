"""How much work the server may hold at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vlkd_serving.errors import OverloadedError
from vlkd_serving.metrics import Metrics

__all__ = ["Admission"]

_WITHIN: ContextVar[bool] = ContextVar("vlkd_admitted", default=False)
"""Whether what runs belongs to work that was admitted as a whole."""


class Admission:
    """Counts items, not requests, and never makes anyone wait: there is room, or there is not.

    A request of more items than the limit is admitted when nothing else is: it would never be otherwise.

    Used from the event loop only, so it needs no lock.

    Args:
        limit: most items admitted at once.
        metrics: where the count is shown.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._inflight = 0

    @property
    def inflight(self) -> int:
        """Items admitted and not yet answered."""
        return self._inflight

    @contextmanager
    def admit(self, items: int) -> Iterator[None]:
        """Hold room for ``items`` while the body runs; what is admitted within it is part of them.

        A request of several parts holds room for all of them first: it runs whole, or not at all.

        Raises:
            OverloadedError: no room; the client should retry later.
        """
        if _WITHIN.get():
            yield
            return
        self.require_room(items)
        self._change(items)
        within = _WITHIN.set(True)
        try:
            yield
        finally:
            _WITHIN.reset(within)
            self._change(-items)

    def require_room(self, items: int = 1) -> None:
        """Raise :class:`OverloadedError` unless ``items`` fit; the middleware asks before it reads a body."""
        if self._inflight and self._inflight + items > self._limit:
            self._metrics.rejected.labels(reason="overloaded").inc()
            raise OverloadedError(
                f"The server is busy with {self._inflight} items of at most {self._limit}; retry shortly."
            )

    def _change(self, items: int) -> None:
        self._inflight += items
        self._metrics.inflight.set(self._inflight)
