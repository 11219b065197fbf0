"""How much work the server may hold at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vlkd_serving.errors import OverloadedError
from vlkd_serving.metrics import Metrics

__all__ = ["Admission"]


class Admission:
    """Counts items, not requests, and never makes anyone wait: there is room, or there is not.

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
        """Hold room for ``items`` while the body runs.

        Raises:
            OverloadedError: no room; the client should retry later.
        """
        if self._inflight + items > self._limit:
            self._metrics.rejected.labels(reason="overloaded").inc()
            raise OverloadedError(
                f"The server is busy with {self._inflight} items of at most {self._limit}; retry shortly."
            )
        self._change(items)
        try:
            yield
        finally:
            self._change(-items)

    def _change(self, items: int) -> None:
        self._inflight += items
        self._metrics.inflight.set(self._inflight)
