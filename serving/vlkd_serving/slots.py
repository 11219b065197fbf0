"""The right to run a batch: one permit a core thread, handed out in the order of asking."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Slots"]


class Slots:
    """A fair semaphore that tells whether someone waits.

    A writer that holds a slot for many steps looks at :attr:`contended` from its thread and lets others in.

    Args:
        count: batches that may run at the same time.
    """

    def __init__(self, count: int) -> None:
        self._semaphore = asyncio.Semaphore(count)
        self._waiting = 0

    @property
    def contended(self) -> bool:
        """Whether a batch waits for a slot; safe to read from any thread."""
        return self._waiting > 0

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._semaphore.release()
