"""Continuous batching: who finishes leaves, who comes joins, and one that fails fails alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from vlkd_hub.runtime.stepwise import Step, Written
from vlkd_serving.errors import DeadlineError, OverloadedError, UnavailableError, UnprocessableError
from vlkd_serving.metrics import Metrics
from vlkd_serving.slots import Slots
from vlkd_serving.writing import TURN_STEPS, ContinuousWriter


class Lengths:
    """Writes as many tokens as a context's first number says; a context of 13 fails at its second step."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s = step_s
        self.broken = False
        self.cohorts: list[list[int]] = []
        self.steps: list[tuple[int, ...]] = []

    def __call__(self, contexts: Sequence[Any], settings: Any, dropped: Collection[int]) -> Iterator[Step]:
        lengths = [int(context[0, 0]) for context in contexts]
        self.cohorts.append(lengths)
        for at in range(1, max(lengths) + 1):
            rows = [row for row, length in enumerate(lengths) if length >= at and row not in dropped]
            if not rows:
                return
            time.sleep(self.step_s)
            self.steps.append(tuple(lengths[row] for row in rows))
            if at == 2 and (13 in lengths or self.broken):
                raise ValueError("thirteen")
            done = {row: Written(list(range(1, at + 1))) for row in rows if lengths[row] == at}
            yield Step({row: at for row in rows}, done)


def drive(write: Lengths, scenario: Callable[[ContinuousWriter], Awaitable[Any]], **options: Any) -> Any:
    """Run a scenario on a started writer."""

    async def main() -> Any:
        settings = {
            "max_rows": 8,
            "max_cohorts": 3,
            "join_delay_s": 0.0,
            "max_delay_s": 0.05,
            "max_queue": 32,
            **options,
        }
        with ThreadPoolExecutor(1) as executor:
            writer = ContinuousWriter(
                "decoder", write, executor=executor, slots=Slots(1), metrics=Metrics(), **settings
            )
            writer.start()
            try:
                return await scenario(writer)
            finally:
                await writer.stop()

    return asyncio.run(asyncio.wait_for(main(), 20))


def later(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def context(length: int) -> Any:
    return np.full((1, 1), length, dtype=np.float32)


def test_texts_that_come_together_are_written_together() -> None:
    """Each gets its own; a short one is answered before the long one ends."""
    ended: list[int] = []

    async def scenario(writer: ContinuousWriter) -> list[Written]:
        async def one(length: int) -> Written:
            written = await writer.submit(context(length), None, later())
            ended.append(length)
            return written

        return await asyncio.gather(*(one(length) for length in (5, 2, 9)))

    write = Lengths()
    assert [len(each.tokens) for each in drive(write, scenario)] == [5, 2, 9]
    assert write.cohorts == [[5, 2, 9]] and ended == [2, 5, 9]
    assert write.steps[-1] == (9,)


def test_a_new_text_joins_while_another_is_written() -> None:
    """The short one that comes later does not wait for the long one."""

    async def scenario(writer: ContinuousWriter) -> list[str]:
        order: list[str] = []

        async def one(name: str, length: int) -> None:
            await writer.submit(context(length), None, later())
            order.append(name)

        long = asyncio.create_task(one("long", 60))
        await asyncio.sleep(0.1)
        await asyncio.gather(long, one("short", 3))
        return order

    assert drive(Lengths(step_s=0.01), scenario) == ["short", "long"]


def test_who_comes_while_others_are_written_waits_for_company() -> None:
    """Until they are twice as many as those: a step for a few costs nearly as much as one for many."""

    async def scenario(writer: ContinuousWriter) -> None:
        long = [asyncio.create_task(writer.submit(context(60), None, later())) for _ in range(2)]
        await asyncio.sleep(0.1)
        first = asyncio.create_task(writer.submit(context(3), None, later()))
        await asyncio.sleep(0.1)
        assert not first.done()
        await asyncio.gather(first, *(writer.submit(context(4), None, later()) for _ in range(3)))
        assert not any(task.done() for task in long)
        await asyncio.gather(*long)

    write = Lengths(step_s=0.01)
    drive(write, scenario, join_delay_s=9.0)
    assert write.cohorts == [[60, 60], [3, 4, 4, 4]]


def test_who_is_on_the_way_is_waited_for() -> None:
    """One that could start beside the last of a cohort waits for two whose pictures are being encoded."""

    async def scenario(writer: ContinuousWriter) -> None:
        long = asyncio.create_task(writer.submit(context(150), None, later()))
        await asyncio.sleep(0.1)
        with writer.expect(2):
            two = [asyncio.create_task(writer.submit(context(3), None, later())) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in two)
        await asyncio.gather(*two, *(writer.submit(context(4), None, later()) for _ in range(2)))
        assert not long.done()
        await long

    write = Lengths(step_s=0.01)
    drive(write, scenario, join_delay_s=9.0)
    assert write.cohorts == [[150], [3, 3, 4, 4]]


@pytest.mark.parametrize(("priority", "join_delay_s", "least", "most"), [(0, 0.2, 0.2, 0.6), (1, 9.0, 0.0, 0.6)])
def test_nobody_waits_long_for_company(priority: int, join_delay_s: float, least: float, most: float) -> None:
    """The delay at most, and who is urgent not at all; the texts that are written take a second."""

    async def scenario(writer: ContinuousWriter) -> float:
        long = [asyncio.create_task(writer.submit(context(100), None, later())) for _ in range(2)]
        await asyncio.sleep(0.1)
        begin = time.perf_counter()
        await writer.submit(context(3), None, later(), priority=priority)
        waited = time.perf_counter() - begin
        assert not any(task.done() for task in long)
        await asyncio.gather(*long)
        return waited

    assert least <= drive(Lengths(step_s=0.01), scenario, join_delay_s=join_delay_s) < most


def test_cohorts_are_bounded_and_then_fill_up() -> None:
    """Under load, those who wait start together instead of one by one."""

    async def scenario(writer: ContinuousWriter) -> None:
        tasks = []
        for _ in range(8):
            tasks.append(asyncio.create_task(writer.submit(context(6), None, later())))
            await asyncio.sleep(0.012)
        await asyncio.gather(*tasks)

    write = Lengths(step_s=0.02)
    drive(write, scenario, max_cohorts=2)
    assert len(write.cohorts) < 8 and max(map(len, write.cohorts)) > 1


def test_other_settings_are_another_cohort() -> None:
    """A beam search must not be mixed with greedy writing."""

    async def scenario(writer: ContinuousWriter) -> None:
        await asyncio.gather(*(writer.submit(context(3), n % 2, later()) for n in range(4)))

    write = Lengths()
    drive(write, scenario)
    assert write.cohorts == [[3, 3], [3, 3]]


def test_cohorts_take_turns_of_a_few_steps() -> None:
    """Neither waits for the other's end, and not every step changes the turn; short texts leave within a turn."""
    ended: list[int] = []

    async def scenario(writer: ContinuousWriter) -> None:
        async def one(length: int, settings: int) -> None:
            await writer.submit(context(length), settings, later())
            ended.append(length)

        await asyncio.gather(one(10, 0), one(2, 0), one(11, 1))

    write = Lengths()
    drive(write, scenario)
    turns = [(which, len(list(steps))) for which, steps in groupby(max(row) for row in write.steps)]
    assert turns == [(10, TURN_STEPS), (11, TURN_STEPS), (10, TURN_STEPS), (11, TURN_STEPS), (10, 2), (11, 3)]
    assert ended == [2, 10, 11]


def test_one_that_fails_fails_alone() -> None:
    """The others are written again, and listeners hear no token twice."""
    heard: list[int] = []

    async def scenario(writer: ContinuousWriter) -> list[Any]:
        tasks = [
            writer.submit(context(n), None, later(), on_token=heard.append if n == 5 else None) for n in (5, 13, 3)
        ]
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = drive(Lengths(), scenario)
    assert isinstance(results[1], ValueError)
    assert [len(results[0].tokens), len(results[2].tokens)] == [5, 3]
    assert heard == [1, 2, 3, 4, 5]


def test_a_failed_cohort_is_halved() -> None:
    """Not taken apart at once: one bad text among eight costs few beginnings, and few cohorts at a time."""

    async def scenario(writer: ContinuousWriter) -> tuple[list[Any], int]:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(writer._cohorts))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        texts = [writer.submit(context(n), None, later()) for n in (3, 3, 3, 3, 3, 13, 3, 3)]
        results = await asyncio.gather(*texts, return_exceptions=True)
        watching.cancel()
        return results, most

    write = Lengths()
    results, most = drive(write, scenario, max_cohorts=1)
    assert [isinstance(each, Written) for each in results] == [n != 5 for n in range(8)]
    begun = sorted(map(len, write.cohorts), reverse=True)
    assert begun == [8, 4, 4, 2, 2, 1, 1, 1] and most <= 4  # the last 1 is a good text, tried once more


@pytest.mark.parametrize("broken", [False, True])
def test_who_is_at_fault_for_a_text_that_fails_alone(broken: bool) -> None:
    """The text, where the part still writes another one: its client is told; else the part, and that is an error."""
    write = Lengths()

    async def scenario(writer: ContinuousWriter) -> Any:
        await writer.submit(context(3), None, later())
        write.broken = broken
        return (await asyncio.gather(writer.submit(context(13), None, later()), return_exceptions=True))[0]

    failure = drive(write, scenario)
    assert type(failure) is (ValueError if broken else UnprocessableError)


def test_who_leaves_is_written_no_further() -> None:
    """Cancelled and expired texts cost no more steps."""

    async def scenario(writer: ContinuousWriter) -> list[Any]:
        gone = asyncio.create_task(writer.submit(context(50), None, later()))
        late = asyncio.create_task(writer.submit(context(60), None, later(0.1)))
        stays = asyncio.create_task(writer.submit(context(20), None, later()))
        await asyncio.sleep(0.05)
        gone.cancel()
        return await asyncio.gather(gone, late, stays, return_exceptions=True)

    write = Lengths(step_s=0.01)
    results = drive(write, scenario)
    assert isinstance(results[0], asyncio.CancelledError) and isinstance(results[1], DeadlineError)
    assert len(results[2].tokens) == 20 and len(write.steps) <= 24
    assert write.steps[-1] == (20,)  # the rows of the two others had left


def test_the_slot_is_shared() -> None:
    """An encoder that waits for the processor gets it between two steps."""

    async def main() -> float:
        slots = Slots(1)
        with ThreadPoolExecutor(1) as executor:
            writer = ContinuousWriter(
                "decoder",
                Lengths(step_s=0.02),
                executor=executor,
                slots=slots,
                max_rows=4,
                max_cohorts=2,
                join_delay_s=0.0,
                max_delay_s=0.01,
                max_queue=8,
                metrics=Metrics(),
            )
            writer.start()
            text = asyncio.create_task(writer.submit(context(50), None, later()))
            await asyncio.sleep(0.1)
            begin = time.perf_counter()
            async with slots:
                waited = time.perf_counter() - begin
            text.cancel()
            await writer.stop()
            return waited

    assert asyncio.run(main()) < 0.5  # the text takes a second


def test_a_full_queue_and_a_stop() -> None:
    """Bounded, and nobody hangs."""

    async def scenario(writer: ContinuousWriter) -> list[Any]:
        tasks = [asyncio.create_task(writer.submit(context(100), None, later())) for _ in range(5)]
        await asyncio.sleep(0.05)
        await writer.stop()
        with pytest.raises(UnavailableError):
            await writer.submit(context(1), None, later())
        return await asyncio.gather(*tasks, return_exceptions=True)

    kinds = [type(result) for result in drive(Lengths(step_s=0.01), scenario, max_queue=3)]
    assert kinds == [UnavailableError] * 3 + [OverloadedError] * 2
