"""What a batcher and a writer share: a worker task, the items that wait for it, and who may still join them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import TypeVar

from vlkd_serving.errors import DeadlineError, OverloadedError, UnavailableError
from vlkd_serving.metrics import Metrics

__all__ = ["WaitingLine", "fail"]

Result = TypeVar("Result")


class WaitingLine(ABC):
    """A bounded line of items in front of one worker.

    Args:
        part: name of the model part, for metrics and errors.
        max_delay_s: longest wait for expected items, seconds.
        max_queue: most items that wait.
        metrics: queue depth and refusals.
    """

    _queue: Sized

    def __init__(self, part: str, *, max_delay_s: float, max_queue: int, metrics: Metrics) -> None:
        self.part = part
        self._max_delay_s = max_delay_s
        self._max_queue = max_queue
        self._metrics = metrics
        self._expected = 0
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @abstractmethod
    async def _work(self) -> None:
        """Serve the line until cancelled."""

    def start(self) -> None:
        """Start the worker; call it inside the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work(), name=f"worker-{self.part}")

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._worker is not None and not self._worker.done()

    @contextmanager
    def expect(self, items: int = 1) -> Iterator[None]:
        """Tell that ``items`` are being prepared and will be submitted when the body ends."""
        self._expected += items
        try:
            yield
        finally:
            self._expected -= items
            self._changed.set()

    async def _halt(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None

    def _admit(self) -> None:
        """Refuse an item that cannot be served.

        Raises:
            OverloadedError: too many items wait.
            UnavailableError: the worker does not run.
        """
        if not self.alive:
            raise UnavailableError("The server is not ready.")
        if len(self._queue) >= self._max_queue:
            self._metrics.rejected.labels(reason="queue_full").inc()
            raise OverloadedError(f"{self._max_queue} items already wait; retry shortly.")

    async def _answer(self, future: asyncio.Future[Result], deadline: float) -> Result:
        """Wait for an item's result.

        Raises:
            DeadlineError: it did not come before ``deadline``, on the event loop's clock.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            self._metrics.rejected.labels(reason="deadline").inc()
            raise DeadlineError("The answer was not ready in time.") from None

    async def _company(self, idle: Callable[[], bool], room: Callable[[], bool]) -> None:
        """Wait while ``idle``; then, while there is ``room``, a little for the items that are expected."""
        if idle():
            while idle():
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(0)  # let requests that became ready in this same turn of the loop join
        until = asyncio.get_running_loop().time() + self._max_delay_s
        while self._expected > 0 and room():
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _depth(self) -> None:
        self._metrics.queue_depth.labels(part=self.part).set(len(self._queue))


def fail(future: asyncio.Future[Result], error: Exception) -> None:
    """End a future with an error, unless it ended before."""
    if not future.done():
        future.set_exception(error)
