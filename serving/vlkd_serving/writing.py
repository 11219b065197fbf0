"""Continuous batching of generation: a finished text leaves at once, and new ones join while others are written."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from vlkd_hub.runtime.stepwise import Step, Written
from vlkd_serving.errors import UnavailableError, UnprocessableError
from vlkd_serving.metrics import Metrics
from vlkd_serving.protocol import Floats
from vlkd_serving.slots import Slots
from vlkd_serving.waiting import WaitingLine, fail

__all__ = ["TURN_STEPS", "ContinuousWriter", "TokenListener", "WriteFunction"]

logger = logging.getLogger("vlkd.serving")

TURN_STEPS = 4
"""Steps of a cohort before the next one's turn: a change of turns passes through the event loop, which costs time in
which nothing is written."""
WriteFunction = Callable[[Sequence[Floats], Any, set[int]], Iterator[Step]]
TokenListener = Callable[[int], None]


@dataclass(eq=False)
class _Entry:
    context: Floats
    settings: Any
    deadline: float
    priority: int
    on_token: TokenListener | None
    future: asyncio.Future[Written]
    told: int = 0
    """Tokens that the listener has heard; a retry does not repeat them."""
    arrived: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class _Cohort:
    """Texts that began together, so that they are of equal length at every step."""

    entries: list[_Entry]
    steps: Iterator[Step] | None = None
    dropped: set[int] = field(default_factory=set)
    length: int = 0
    """Tokens of each open text so far."""


class ContinuousWriter(WaitingLine):
    """Writes texts for many requests at once, step by step.

    Texts that start together form a cohort, since the decoder reads one position for all its rows. Several cohorts are
    written in turns of :data:`TURN_STEPS`, so a new request does not wait for the texts that are half done. A row
    leaves its cohort when it ends, when its client has gone, or at its deadline. A step for a few rows costs nearly as
    much as one for many: while texts are written, those that come wait, up to ``join_delay_s``, until they are a full
    cohort, or twice as many as are left of the others with no more on their way.

    Args:
        part: name for metrics.
        write: ``write(contexts, settings, dropped)`` -> steps; called on ``executor``.
        executor: threads that run steps.
        slots: shared with the batchers; held from step to step only while nobody else waits.
        max_rows: most texts of one cohort; only requests of equal settings share one.
        max_cohorts: most cohorts at once; further requests wait and then start together.
        join_delay_s: longest wait of a request without priority for others to start with, seconds.
        max_delay_s: longest wait for expected requests when nothing is being written, seconds.
        max_queue: most requests that wait.
        metrics: as :class:`vlkd_serving.batching.DynamicBatcher`; a batch is a cohort.
    """

    def __init__(
        self,
        part: str,
        write: WriteFunction,
        *,
        executor: Executor,
        slots: Slots,
        max_rows: int,
        max_cohorts: int,
        join_delay_s: float,
        max_delay_s: float,
        max_queue: int,
        metrics: Metrics,
    ) -> None:
        super().__init__(part, max_delay_s=max_delay_s, max_queue=max_queue, metrics=metrics)
        self._write = write
        self._executor = executor
        self._slots = slots
        self._max_rows = max_rows
        self._max_cohorts = max_cohorts
        self._join_delay_s = join_delay_s
        self._queue: list[_Entry] = []
        self._cohorts: deque[_Cohort] = deque()
        self._attention = threading.Event()
        self._alone = False
        self._good: tuple[Floats, Any] | None = None  # the context of the last text that was finished, its settings

    async def stop(self) -> None:
        """Stop the worker; texts that are not done fail with :class:`UnavailableError`."""
        self._attention.set()
        await self._halt()
        for entry in [*self._queue, *(entry for cohort in self._cohorts for entry in cohort.entries)]:
            fail(entry.future, UnavailableError("The server is shutting down."))
        self._queue.clear()
        self._cohorts.clear()

    async def submit(
        self,
        context: Floats,
        settings: Any,
        deadline: float,
        *,
        priority: int = 0,
        on_token: TokenListener | None = None,
    ) -> Written:
        """Write one text.

        Args:
            context: what the decoder looks at, (tokens, width).
            settings: how to choose tokens; hashable.
            deadline: on the event loop's clock.
            priority: higher ones start first.
            on_token: called in the event loop with each token of the text, in order.

        Raises:
            OverloadedError: too many wait.
            DeadlineError: not done in time.
            UnavailableError: the writer is not running.
            UnprocessableError: the part fails on this text and works on others.
            Exception: what ``write`` raised, where it fails on others too.
        """
        self._admit()
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._queue.append(_Entry(context, settings, deadline, priority, on_token, future))
        self._depth()
        self._changed.set()
        if self._alone or (len(self._cohorts) < self._max_cohorts and self._worth_starting()):
            self._attention.set()
        try:
            return await self._answer(future, deadline)
        except BaseException:
            self._attention.set()  # a row that nobody waits for is dropped at the next step
            raise

    async def _work(self) -> None:
        while True:
            await self._company(
                lambda: not self._queue and not self._cohorts,
                lambda: not self._cohorts and len(self._queue) < self._max_rows,
            )
            async with self._slots:
                self._form_cohorts()
                if self._cohorts:
                    await self._advance(self._cohorts.popleft())

    def _form_cohorts(self) -> None:
        now = asyncio.get_running_loop().time()
        self._queue = [entry for entry in self._queue if not entry.future.done() and entry.deadline > now]
        while self._queue and len(self._cohorts) < self._max_cohorts and self._worth_starting():
            first = min(self._queue, key=lambda entry: -entry.priority)
            same = [entry for entry in self._queue if entry.settings == first.settings]
            same.sort(key=lambda entry: -entry.priority)
            chosen = same[: self._max_rows]
            self._queue = [entry for entry in self._queue if entry not in chosen]
            self._metrics.batch_size.labels(part=self.part).observe(len(chosen))
            for entry in chosen:
                self._metrics.queue_seconds.labels(part=self.part).observe(time.perf_counter() - entry.arrived)
            self._cohorts.append(_Cohort(chosen))
        self._depth()

    def _worth_starting(self) -> bool:
        """Whether those who wait start now: nobody can join them soon, or they are many, urgent or old."""
        if len(self._queue) >= self._max_rows or any(entry.priority > 0 for entry in self._queue):
            return True
        written = sum(not entry.future.done() for cohort in self._cohorts for entry in cohort.entries)
        if len(self._queue) >= 2 * written and (not written or self._expected == 0):
            return True
        return time.perf_counter() - min(entry.arrived for entry in self._queue) >= self._join_delay_s

    async def _advance(self, cohort: _Cohort) -> None:
        """Write a cohort on until something has to be decided, then put it back in line."""
        cohort.dropped |= {row for row, entry in enumerate(cohort.entries) if entry.future.done()}
        if len(cohort.dropped) == len(cohort.entries):
            return
        self._attention.clear()
        self._alone = not self._cohorts and not self._queue
        self._cohorts.append(cohort)
        loop = asyncio.get_running_loop()
        try:
            ended = await loop.run_in_executor(self._executor, self._steps, cohort, loop)
        except Exception as error:
            await self._isolate(cohort, error)
            return
        finally:
            self._alone = False
        if all(entry.future.done() for entry in cohort.entries):
            self._cohorts.remove(cohort)
        elif ended:
            await self._isolate(cohort, RuntimeError(f"{self.part} ended without finishing every text"))

    def _steps(self, cohort: _Cohort, loop: asyncio.AbstractEventLoop) -> bool:
        """On a core thread: a turn, or, where no other cohort waits for one, as many steps as nobody interrupts.

        Returns:
            Whether there are no more.
        """
        begin = time.perf_counter()
        if cohort.steps is None:
            contexts = [entry.context for entry in cohort.entries]
            cohort.steps = self._write(contexts, cohort.entries[0].settings, cohort.dropped)
        try:
            for taken, step in enumerate(cohort.steps, 1):
                self._tell(cohort, step, loop)
                if self._attention.is_set() or self._slots.contended or (taken >= TURN_STEPS and not self._alone):
                    return False
            return True
        finally:
            self._metrics.infer_seconds.labels(part=self.part).observe(time.perf_counter() - begin)

    def _tell(self, cohort: _Cohort, step: Step, loop: asyncio.AbstractEventLoop) -> None:
        cohort.length += bool(step.tokens)
        for row, token in step.tokens.items():
            entry = cohort.entries[row]
            if entry.on_token is not None and cohort.length > entry.told:
                entry.told = cohort.length
                loop.call_soon_threadsafe(entry.on_token, token)
        for row, written in step.finished.items():
            self._good = cohort.entries[row].context, cohort.entries[row].settings
            loop.call_soon_threadsafe(_resolve, cohort.entries[row].future, written)

    async def _isolate(self, cohort: _Cohort, error: Exception) -> None:
        """Halve a failed cohort until the texts at fault stand alone; the others are written again, before all else."""
        live = [entry for entry in cohort.entries if not entry.future.done()]
        alone = len(cohort.entries) == 1
        if alone and await self._text_is_at_fault():
            logger.warning("%s fails on an input and works on others", self.part, exc_info=error)
            error = UnprocessableError(f"The model's {self.part} cannot process this input.")
        self._cohorts.remove(cohort)
        if alone:
            fail(cohort.entries[0].future, error)
            return
        middle = (len(live) + 1) // 2
        self._cohorts.extendleft(_Cohort(half) for half in (live[middle:], live[:middle]) if half)

    async def _text_is_at_fault(self) -> bool:
        """Whether the part still begins the text that it finished last: then what failed alone is to blame for it."""
        if self._good is None:
            return False
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._begin, *self._good)
        except Exception:
            return False
        return True

    def _begin(self, context: Floats, settings: Any) -> None:
        """On a core thread: the first turn of a text for nobody."""
        for _ in islice(self._write([context], settings, set()), TURN_STEPS):
            pass


def _resolve(future: asyncio.Future[Written], written: Written) -> None:
    """End a future with a text, unless it ended before."""
    if not future.done():
        future.set_result(written)
