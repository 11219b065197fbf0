"""Continuous batching of generation: a finished text leaves at once, and new ones join while others are written."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from vlkd_hub.runtime.context_rows import Context
from vlkd_hub.runtime.stepwise import Step, StepwiseTexts, Written
from vlkd_serving.errors import UnavailableError, UnprocessableError
from vlkd_serving.metrics import Metrics
from vlkd_serving.slots import Slots
from vlkd_serving.waiting import WaitingLine, fail

__all__ = ["TURN_STEPS", "ContinuousWriter", "TokenListener", "WriteFunction"]

logger = logging.getLogger("vlkd.serving")

TURN_STEPS = 4
"""Steps of a group before the next one's turn: a change of turns passes through the event loop, which costs time in
which nothing is written."""
WriteFunction = Callable[[Sequence[Context], Any, set[int]], StepwiseTexts]
TokenListener = Callable[[int], None]


@dataclass(eq=False)
class _Entry:
    context: Context
    settings: Any
    deadline: float
    priority: int
    on_token: TokenListener | None
    future: asyncio.Future[Written]
    length: int = 0
    """Tokens so far."""
    told: int = 0
    """Tokens that the listener has heard; a retry does not repeat them."""
    arrived: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class _Group:
    """Texts of equal settings that are written together.

    Args:
        settings: of all of them.
        joining: those that begin at the next turn.
        closed: nobody else may join: it is looked through for a text that fails, or others wait for its place.
        again: its texts were written in another group before, which failed.
    """

    settings: Any
    joining: list[_Entry]
    closed: bool = False
    again: bool = False
    entries: dict[int, _Entry] = field(default_factory=dict)
    """By row; a row's number is never given twice."""
    begun: int = 0
    steps: StepwiseTexts | None = None
    dropped: set[int] = field(default_factory=set)

    @property
    def joinable(self) -> bool:
        return not self.closed and (self.steps is None or self.steps.joinable)

    @property
    def live(self) -> list[_Entry]:
        """Who waits for a text."""
        return [entry for entry in (*self.entries.values(), *self.joining) if not entry.future.done()]

    def turn(self) -> list[_Entry]:
        """Give rows to those who join, and let go of those who left; who joined now."""
        left = {row for row, entry in self.entries.items() if entry.future.done()}
        self.dropped.clear()
        self.dropped |= left
        for row in left:
            del self.entries[row]
        joined, self.joining = [entry for entry in self.joining if not entry.future.done()], []
        self.entries |= dict(enumerate(joined, self.begun))
        self.begun += len(joined)
        return joined


class ContinuousWriter(WaitingLine):
    """Writes texts for many requests at once, step by step.

    Texts of equal settings form a group, in which each is at a position of its own: a new one joins at the next step,
    and a row leaves when its text ends, when its client has gone, or at its deadline. Several groups are written in
    turns of :data:`TURN_STEPS`, so that one with other settings does not wait for all that are half done.

    A step for a few rows costs nearly as much as one for many. So where no group can be joined (it is full, or searches
    by beams), those that come while texts are written wait, up to ``join_delay_s``, until they are a full group, or
    twice as many as are left of the others with no more on their way. Groups that are joined again and again might
    never end: where all places are taken and someone has waited that long, one of them is closed to newcomers.

    Args:
        part: name for metrics.
        write: ``write(contexts, settings, dropped)`` -> steps; called on ``executor``.
        executor: threads that run steps.
        slots: shared with the batchers; held from step to step only while nobody else waits.
        max_rows: most texts of one group; only requests of equal settings share one.
        max_groups: most groups at once; further requests wait and then start together.
        join_delay_s: longest wait of a request without priority for others to start with, seconds.
        max_delay_s: longest wait for expected requests when nothing is being written, seconds.
        max_queue: most requests that wait.
        metrics: as :class:`vlkd_serving.batching.DynamicBatcher`; a batch is a group when texts begin in it.
    """

    def __init__(
        self,
        part: str,
        write: WriteFunction,
        *,
        executor: Executor,
        slots: Slots,
        max_rows: int,
        max_groups: int,
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
        self._max_groups = max_groups
        self._join_delay_s = join_delay_s
        self._queue: list[_Entry] = []
        self._groups: deque[_Group] = deque()
        self._attention = threading.Event()
        self._alone = False
        self._good: tuple[Context, Any] | None = None  # the context of the last text that was finished, its settings

    async def stop(self) -> None:
        """Stop the worker; texts that are not done fail with :class:`UnavailableError`."""
        self._attention.set()
        await self._halt()
        for entry in [*self._queue, *(entry for group in self._groups for entry in group.live)]:
            fail(entry.future, UnavailableError("The server is shutting down."))
        self._queue.clear()
        self._groups.clear()

    async def submit(
        self,
        context: Context,
        settings: Any,
        deadline: float,
        *,
        priority: int = 0,
        on_token: TokenListener | None = None,
    ) -> Written:
        """Write one text.

        Args:
            context: what the decoder looks at.
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
        if self._alone or self._group_for(settings) or self._may_start(self._queue):
            self._attention.set()
        try:
            return await self._answer(future, deadline)
        except BaseException:
            self._attention.set()  # a row that nobody waits for is dropped at the next step
            raise

    async def _work(self) -> None:
        while True:
            await self._company(
                lambda: not self._queue and not self._groups,
                lambda: not self._groups and len(self._queue) < self._max_rows,
            )
            async with self._slots:
                self._admit_waiting()
                if self._groups:
                    await self._advance(self._groups.popleft())

    def _admit_waiting(self) -> None:
        """Those who wait join groups, the most urgent first, or begin new ones."""
        now = asyncio.get_running_loop().time()
        live = [entry for entry in self._queue if not entry.future.done() and entry.deadline > now]
        live.sort(key=lambda entry: -entry.priority)
        self._make_room(live)
        self._queue = []
        for entry in live:
            group = self._group_for(entry.settings)
            (self._queue if group is None else group.joining).append(entry)
        while self._queue and self._may_start(self._queue):
            settings = self._queue[0].settings
            chosen = [entry for entry in self._queue if entry.settings == settings][: self._max_rows]
            self._queue = [entry for entry in self._queue if entry not in chosen]
            self._groups.append(_Group(settings, chosen))
        self._depth()

    def _make_room(self, waiting: Sequence[_Entry]) -> None:
        """Let a group run to its end where all places are taken and someone has waited long enough for one."""
        full = len(self._groups) >= self._max_groups and not any(group.closed for group in self._groups)
        if full and any(self._is_due(entry) and self._group_for(entry.settings) is None for entry in waiting):
            often = [each.settings for each in self._groups]
            # Of two groups with the same settings one can go without keeping anyone waiting.
            max(self._groups, key=lambda group: (often.count(group.settings), group.begun)).closed = True

    def _is_due(self, entry: _Entry) -> bool:
        return entry.priority > 0 or time.perf_counter() - entry.arrived >= self._join_delay_s

    def _group_for(self, settings: Any) -> _Group | None:
        """A group that a text of these settings can join."""
        for group in self._groups:
            if group.joinable and group.settings == settings and 0 < len(group.live) < self._max_rows:
                return group
        return None

    def _may_start(self, waiting: Sequence[_Entry]) -> bool:
        """Whether those who wait begin a group: nobody can join them soon, or they are many, urgent or old."""
        if len(self._groups) >= self._max_groups:
            return False
        written = sum(len(group.live) for group in self._groups)
        if len(waiting) >= 2 * written and (not written or self._expected == 0):
            return True
        return len(waiting) >= self._max_rows or any(map(self._is_due, waiting))

    async def _advance(self, group: _Group) -> None:
        """Write a group on until something has to be decided, then put it back in line."""
        joined = group.turn()
        if not group.entries:
            return
        if joined and not group.again:
            self._sizes.observe(len(group.entries))
            for entry in joined:
                self._waited.observe(time.perf_counter() - entry.arrived)
        self._attention.clear()
        self._alone = not self._groups and not self._queue
        self._groups.append(group)
        loop = asyncio.get_running_loop()
        try:
            ended = await loop.run_in_executor(self._executor, self._steps, group, joined, loop)
        except Exception as error:
            await self._isolate(group, error)
            return
        finally:
            self._alone = False
        if not group.live:
            self._groups.remove(group)
        elif ended:
            await self._isolate(group, RuntimeError(f"{self.part} ended without finishing every text"))

    def _steps(self, group: _Group, joined: Sequence[_Entry], loop: asyncio.AbstractEventLoop) -> bool:
        """On a core thread: a turn, or, where no other group waits for one, as many steps as nobody interrupts.

        Returns:
            Whether there are no more.
        """
        begin = time.perf_counter()
        if group.steps is None:
            group.steps = self._write([entry.context for entry in joined], group.settings, group.dropped)
        elif joined:
            group.steps.join([entry.context for entry in joined])
        try:
            for taken, step in enumerate(group.steps, 1):
                self._tell(group, step, loop)
                if self._attention.is_set() or self._slots.contended or (taken >= TURN_STEPS and not self._alone):
                    return False
            return True
        finally:
            self._seconds.observe(time.perf_counter() - begin)

    def _tell(self, group: _Group, step: Step, loop: asyncio.AbstractEventLoop) -> None:
        for row, token in step.tokens.items():
            entry = group.entries.get(row)
            if entry is None:
                continue
            entry.length += 1
            if entry.on_token is not None and entry.length > entry.told:
                entry.told = entry.length
                loop.call_soon_threadsafe(entry.on_token, token)
        for row, written in step.finished.items():
            entry = group.entries.get(row)
            if entry is not None:
                self._good = entry.context, entry.settings
                loop.call_soon_threadsafe(_resolve, entry.future, written)

    async def _isolate(self, group: _Group, error: Exception) -> None:
        """Halve a failed group until the texts at fault stand alone; the others are written again, before all else."""
        live = group.live
        alone = group.begun == 1
        if alone and await self._text_is_at_fault():
            logger.warning("%s fails on an input and works on others", self.part, exc_info=error)
            error = UnprocessableError(f"The model's {self.part} cannot process this input.")
        self._groups.remove(group)
        if alone:
            for entry in live:
                fail(entry.future, error)
            return
        for entry in live:
            entry.length = 0
        middle = (len(live) + 1) // 2
        halves = (live[middle:], live[:middle])
        self._groups.extendleft(_Group(group.settings, half, closed=True, again=True) for half in halves if half)

    async def _text_is_at_fault(self) -> bool:
        """Whether the part still begins the text that it finished last: then what failed alone is to blame for it."""
        if self._good is None:
            return False
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._begin, *self._good)
        except Exception:
            return False
        return True

    def _begin(self, context: Context, settings: Any) -> None:
        """On a core thread: the first turn of a text for nobody."""
        for _ in islice(self._write([context], settings, set()), TURN_STEPS):
            pass


def _resolve(future: asyncio.Future[Written], written: Written) -> None:
    """End a future with a text, unless it ended before."""
    if not future.done():
        future.set_result(written)
