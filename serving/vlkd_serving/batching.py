"""A dynamic batcher: items that arrive one by one run together, and one bad item fails alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vlkd_serving.errors import DeadlineError, UnavailableError, UnprocessableError
from vlkd_serving.metrics import Metrics
from vlkd_serving.slots import Slots
from vlkd_serving.waiting import WaitingLine, fail

__all__ = ["BatchFunction", "DynamicBatcher"]

logger = logging.getLogger("vlkd.serving")

Item = TypeVar("Item")
Result = TypeVar("Result")
BatchFunction = Callable[[Sequence[Item], Any], Sequence[Result]]


@dataclass(eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    key: Hashable
    deadline: float  # on the event loop's clock, seconds
    priority: int
    length: int
    future: asyncio.Future[Result]
    arrived: float = field(default_factory=time.perf_counter)


class DynamicBatcher(WaitingLine, Generic[Item, Result]):
    """Collects items for one model part and runs them in batches on a thread.

    An idle part starts on the first item at once. It waits for company only while fewer than ``enough`` items are
    here and :meth:`expect` says that more are on their way, and at most ``max_delay_s``. While a batch runs, what
    arrives gathers for the next one, which starts beside it once it is half full: one alone leaves processors idle
    where an operator's threads wait for each other. A batch starts from the oldest item of the highest priority and
    takes those of nearest length, so that little is padding.

    Args:
        part: name of the model part, for metrics and errors.
        run: ``run(items, key)`` -> one result an item, in order; called on ``executor``.
        executor: threads that run batches.
        slots: one permit a thread; a batch is put together only when it can start, so late comers still join it.
        at_once: batches that may run at the same time.
        max_batch: most items of one batch; only items of equal ``key`` (options) share one.
        enough: a batch of so many is efficient: it starts at once.
        max_delay_s: longest wait for expected items, seconds.
        max_queue: most items that wait.
        metrics: queue depth and time, batch size and time.
    """

    def __init__(
        self,
        part: str,
        run: BatchFunction[Item, Result],
        *,
        executor: Executor,
        slots: Slots,
        at_once: int = 1,
        max_batch: int,
        enough: int,
        max_delay_s: float,
        max_queue: int,
        metrics: Metrics,
    ) -> None:
        super().__init__(part, workers=at_once, max_delay_s=max_delay_s, max_queue=max_queue, metrics=metrics)
        self._run = run
        self._executor = executor
        self._slots = slots
        self._max_batch = max_batch
        self._enough = min(enough, max_batch)
        self._queue: deque[_Entry[Item, Result]] = deque()
        self._running = 0  # batches
        self._asking = 0  # workers that wait for a slot
        self._good: tuple[Item, Hashable] | None = None  # the last item that ran, and its options

    async def stop(self) -> None:
        """Stop the worker; items that still wait fail with :class:`UnavailableError`."""
        await self._halt()
        self._asking = self._running = 0
        while self._queue:
            fail(self._queue.popleft().future, UnavailableError("The server is shutting down."))

    async def submit(
        self, item: Item, deadline: float, key: Hashable = None, *, priority: int = 0, length: int = 0
    ) -> Result:
        """Run one item with whoever else is there; the arguments are those of :meth:`enqueue`.

        Raises:
            OverloadedError: too many items wait.
            DeadlineError: no result in time.
            UnavailableError: the batcher is not running.
            UnprocessableError: the part fails on this item and works on others.
            Exception: what ``run`` raised, where it fails on others too.
        """
        return await self._answer(self.enqueue(item, deadline, key, priority=priority, length=length), deadline)

    def enqueue(
        self, item: Item, deadline: float, key: Hashable = None, *, priority: int = 0, length: int = 0
    ) -> asyncio.Future[Result]:
        """As :meth:`submit`, for a caller who keeps the time himself: what is running at the deadline runs to its end.

        Args:
            item: what ``run`` takes.
            deadline: on the event loop's clock; an item that waits past it never enters a batch.
            key: options; items with different ones never share a batch.
            priority: higher ones go first; equal ones in order of arrival.
            length: for example in tokens; a batch holds items of similar length.

        Raises:
            OverloadedError: too many items wait.
            UnavailableError: the batcher is not running.
        """
        self._admit()
        entry: _Entry[Item, Result] = _Entry(
            item, key, deadline, priority, length, asyncio.get_running_loop().create_future()
        )
        self._queue.append(entry)
        self._depth()
        self._changed.set()
        return entry.future

    async def _work(self) -> None:
        while True:
            await self._company(lambda: not self._worth_asking(), lambda: len(self._queue) < self._enough)
            if not self._worth_asking():  # another worker that was woken by the same item was first
                continue
            self._asking += 1
            async with self._slots:
                self._asking -= 1
                batch = self._take()
                if batch:
                    self._running += 1
                    await self._execute(batch)
                    self._running -= 1

    def _worth_asking(self) -> bool:
        """Whether another worker should ask for a slot, beside those that run and those that ask."""
        left = len(self._queue) - self._asking * self._max_batch
        return left > 0 and (not self._running or 2 * left >= self._max_batch)

    def _take(self) -> list[_Entry[Item, Result]]:
        """The first live item and those of its key nearest to it in length; the dead ones are dropped."""
        now = asyncio.get_running_loop().time()
        for entry in self._queue:
            if entry.deadline <= now and not entry.future.done():
                self._metrics.rejected.labels(reason="deadline").inc()
                fail(entry.future, DeadlineError("The answer was not ready in time."))
        live = [entry for entry in self._queue if not entry.future.done()]
        if not live:
            self._queue.clear()
            self._depth()
            return []
        first = min(live, key=lambda entry: -entry.priority)  # min keeps the earliest of equal ones
        same = [entry for entry in live if entry.key == first.key]
        same.sort(key=lambda entry: (entry is not first, -entry.priority, abs(entry.length - first.length)))
        batch = same[: self._max_batch]
        chosen = set(map(id, batch))
        self._queue = deque(entry for entry in live if id(entry) not in chosen)
        self._depth()
        if self._queue:
            self._changed.set()  # another worker may ask
        return batch

    async def _execute(self, batch: list[_Entry[Item, Result]]) -> None:
        for entry in batch:
            self._waited.observe(time.perf_counter() - entry.arrived)
        self._sizes.observe(len(batch))
        try:
            await self._settle(batch)
        except asyncio.CancelledError:
            for entry in batch:
                fail(entry.future, UnavailableError("The server is shutting down."))
            raise

    async def _settle(self, batch: list[_Entry[Item, Result]]) -> None:
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._executor, self._call, batch)
        except Exception as error:
            await self._isolate(batch, error)
            return
        self._good = batch[0].item, batch[0].key
        for entry, result in zip(batch, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(result)

    async def _isolate(self, batch: list[_Entry[Item, Result]], error: Exception) -> None:
        """Halve a failed batch until the items at fault stand alone; the others get their results."""
        if len(batch) == 1:
            if await self._item_is_at_fault():
                logger.warning("%s fails on an input and works on others", self.part, exc_info=error)
                error = UnprocessableError(f"The model's {self.part} cannot process this input.")
            fail(batch[0].future, error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            live = [entry for entry in half if not entry.future.done()]
            if live:
                await self._execute(live)

    async def _item_is_at_fault(self) -> bool:
        """Whether the part still runs the item that it ran last: then what failed alone is to blame for it."""
        if self._good is None:
            return False
        item, key = self._good
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._run, [item], key)
        except Exception:
            return False
        return True

    def _call(self, batch: list[_Entry[Item, Result]]) -> Sequence[Result]:
        begin = time.perf_counter()
        results = self._run([entry.item for entry in batch], batch[0].key)
        self._seconds.observe(time.perf_counter() - begin)
        if len(results) != len(batch):
            raise RuntimeError(f"{self.part} returned {len(results)} results for {len(batch)} items")
        return results
