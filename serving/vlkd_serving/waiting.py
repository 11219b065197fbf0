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
    """A bounded line of items in front of workers.

    Args:
        part: name of the model part, for metrics and errors.
        workers: how many serve the line.
        max_delay_s: longest wait for expected items, seconds.
        max_queue: most items that wait.
        metrics: of the line and of what is run, under the name of the part; refusals.
    """

    _queue: Sized

    def __init__(self, part: str, *, workers: int = 1, max_delay_s: float, max_queue: int, metrics: Metrics) -> None:
        self.part = part
        self._count = workers
        self._max_delay_s = max_delay_s
        self._max_queue = max_queue
        self._metrics = metrics
        self._waiting = metrics.queue_depth.labels(part=part)
        self._waited = metrics.queue_seconds.labels(part=part)
        self._sizes = metrics.batch_size.labels(part=part)
        self._seconds = metrics.infer_seconds.labels(part=part)
        self._expected = 0
        self._changed = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    @abstractmethod
    async def _work(self) -> None:
        """Serve the line until cancelled."""

    def start(self) -> None:
        """Start the workers; call it inside the running event loop."""
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._work(), name=f"worker-{self.part}") for _ in range(self._count)]

    @property
    def alive(self) -> bool:
        """Whether the workers run."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

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
        """End the workers."""
        for worker in self._workers:
            worker.cancel()
        for worker in self._workers:
            with suppress(asyncio.CancelledError):
                await worker
        self._workers = []

    def _admit(self) -> None:
        """Refuse an item that cannot be served.

        Raises:
            OverloadedError: too many items wait.
            UnavailableError: the workers do not run.
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
        self._waiting.set(len(self._queue))


def fail(future: asyncio.Future[Result], error: Exception) -> None:
    """End a future with an error, unless it ended before."""
    if not future.done():
        future.set_exception(error)
