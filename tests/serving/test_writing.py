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

from vlkd_hub.runtime.stepwise import Step, StepwiseTexts, Written
from vlkd_serving.errors import DeadlineError, OverloadedError, UnavailableError, UnprocessableError
from vlkd_serving.metrics import Metrics
from vlkd_serving.slots import Slots
from vlkd_serving.writing import TURN_STEPS, ContinuousWriter


class Lengths:
    """Writes as many tokens as a context's first number says; a context of 13 fails at its second step."""

    def __init__(self, step_s: float = 0.0, joinable: bool = False) -> None:
        self.step_s = step_s
        self.joinable = joinable
        self.broken = False
        self.groups: list[list[int]] = []
        self.steps: list[tuple[int, ...]] = []

    def __call__(self, contexts: Sequence[Any], settings: Any, dropped: Collection[int]) -> StepwiseTexts:
        return LengthTexts(self, contexts, dropped)


class LengthTexts:
    """The texts of one group, each at a position of its own."""

    def __init__(self, of: Lengths, contexts: Sequence[Any], dropped: Collection[int]) -> None:
        self.of = of
        self.joinable = of.joinable
        self.dropped = dropped
        self.lengths: list[int] = []
        self.written: dict[int, int] = {}
        of.groups.append([])
        self.group = of.groups[-1]
        self.begin(contexts)

    def begin(self, contexts: Sequence[Any]) -> None:
        new = [int(context[0][0, 0]) for context in contexts]
        self.written |= dict.fromkeys(range(len(self.lengths), len(self.lengths) + len(new)), 0)
        self.lengths += new
        self.group += new

    def join(self, contexts: Sequence[Any]) -> None:
        assert self.joinable
        self.begin(contexts)

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        for row in self.dropped:
            self.written.pop(row, None)
        if not self.written:
            raise StopIteration
        time.sleep(self.of.step_s)
        self.of.steps.append(tuple(self.lengths[row] for row in self.written))
        for row in self.written:
            self.written[row] += 1
            if self.written[row] == 2 and (13 in self.lengths or self.of.broken):
                raise ValueError("thirteen")
        tokens = dict(self.written)
        done = [row for row, count in tokens.items() if count == self.lengths[row]]
        for row in done:
            del self.written[row]
        return Step(tokens, {row: Written(list(range(1, self.lengths[row] + 1))) for row in done})


def drive(write: Lengths, scenario: Callable[[ContinuousWriter], Awaitable[Any]], **options: Any) -> Any:
    """Run a scenario on a started writer."""

    async def main() -> Any:
        settings = {
            "max_rows": 8,
            "max_groups": 3,
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
    return [np.full((1, 1), length, dtype=np.float32)]


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
    assert write.groups == [[5, 2, 9]] and ended == [2, 5, 9]
    assert write.steps[-1] == (9,)


def test_a_new_text_starts_beside_another_that_cannot_be_joined() -> None:
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


def test_a_new_text_joins_the_group_that_is_written() -> None:
    """At its next step, whatever the delay; and tokens are told in order, none twice."""
    heard: list[int] = []

    async def scenario(writer: ContinuousWriter) -> list[int]:
        async def one(length: int) -> int:
            return len((await writer.submit(context(length), None, later(), on_token=heard.append)).tokens)

        long = asyncio.create_task(writer.submit(context(60), None, later()))
        await asyncio.sleep(0.1)
        lengths = [await one(3), await one(5)]
        assert not long.done()
        return [*lengths, len((await long).tokens)]

    write = Lengths(step_s=0.01, joinable=True)
    assert drive(write, scenario, join_delay_s=9.0) == [3, 5, 60]
    assert write.groups == [[60, 3, 5]] and heard == [1, 2, 3, 1, 2, 3, 4, 5]
    assert (60, 3) in write.steps and (60, 5) in write.steps and (60, 3, 5) not in write.steps


def test_a_full_group_is_joined_as_rows_leave() -> None:
    """Never more rows than the limit, and nobody begins beside it within the delay."""

    async def scenario(writer: ContinuousWriter) -> list[Written]:
        return await asyncio.gather(*(writer.submit(context(n), None, later()) for n in (9, 4, 20, 3, 5)))

    write = Lengths(step_s=0.005, joinable=True)
    assert [len(each.tokens) for each in drive(write, scenario, max_rows=3, join_delay_s=9.0)] == [9, 4, 20, 3, 5]
    assert sorted(map(sorted, write.groups)) == [[3, 4, 5, 9, 20]]
    assert max(map(len, write.steps)) == 3


@pytest.mark.parametrize(("same", "priority"), [(False, 0), (False, 1), (True, 0), (True, 1)])
def test_groups_that_are_joined_for_ever_make_room(same: bool, priority: int) -> None:
    """All places are taken by texts that keep coming, of one kind or of three: another kind gets its turn."""

    async def scenario(writer: ContinuousWriter) -> float:
        async def client(number: int) -> None:
            for text in range(1000):
                length = 15 + (7 * number + text) % 11
                await writer.submit(context(length), "same" if same else number % 3, later(60))

        clients = [asyncio.create_task(client(number)) for number in range(30 if same else 18)]
        await asyncio.sleep(0.5)
        begin = time.perf_counter()
        await writer.submit(context(3), "other", later(4), priority=priority)
        waited = time.perf_counter() - begin
        for each in clients:
            each.cancel()
        return waited

    write = Lengths(step_s=0.002, joinable=True)
    assert drive(write, scenario, join_delay_s=0.1) < 1.5
    assert max(map(len, write.steps)) <= 8


def test_who_joins_ends_the_turn_of_another_group() -> None:
    """With two groups under way, a text for the one that waits does not see the other's turn through."""

    async def scenario(writer: ContinuousWriter) -> None:
        in_its_turn = asyncio.Event()

        def heard(token: int) -> None:
            if token == 2:
                in_its_turn.set()

        first = asyncio.create_task(writer.submit(context(40), 0, later()))
        second = asyncio.create_task(writer.submit(context(41), 1, later(), on_token=heard))
        await in_its_turn.wait()
        await writer.submit(context(2), 0, later())
        assert not first.done() and not second.done()
        await asyncio.gather(first, second)

    write = Lengths(step_s=0.02, joinable=True)
    drive(write, scenario, join_delay_s=0.05)
    turns = [(which, len(list(steps))) for which, steps in groupby(write.steps, key=max)]
    lengths = [length for which, length in turns if which == 41]
    assert lengths[0] < TURN_STEPS and lengths[1] == TURN_STEPS


def test_others_of_a_failed_group_are_written_again() -> None:
    """A text that joins and fails takes nobody with it, and nobody joins those that are looked through."""

    async def scenario(writer: ContinuousWriter) -> list[Any]:
        first = [asyncio.create_task(writer.submit(context(n), None, later())) for n in (40, 30)]
        await asyncio.sleep(0.1)
        bad = asyncio.create_task(writer.submit(context(13), None, later()))
        await asyncio.sleep(0.05)
        last = asyncio.create_task(writer.submit(context(4), None, later()))
        return await asyncio.gather(*first, bad, last, return_exceptions=True)

    write = Lengths(step_s=0.01, joinable=True)
    results = drive(write, scenario, join_delay_s=0.0)
    assert [isinstance(each, Written) for each in results] == [True, True, False, True]
    assert write.groups[0] == [40, 30, 13] and not any(4 in group and 13 in group for group in write.groups)


def test_rows_of_a_long_lived_group_are_let_go() -> None:
    """A group that never runs empty holds only those who wait."""

    async def scenario(writer: ContinuousWriter) -> int:
        most = 0
        long = asyncio.create_task(writer.submit(context(150), None, later()))
        for _ in range(12):
            await writer.submit(context(2), None, later())
            most = max(most, *(len(group.entries) + len(group.dropped) for group in writer._groups))
        assert not long.done() and len(writer._groups) == 1
        await long
        return most

    assert drive(Lengths(step_s=0.005, joinable=True), scenario) <= 4


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
    assert write.groups == [[60, 60], [3, 4, 4, 4]]


def test_who_is_on_the_way_is_waited_for() -> None:
    """One that could start beside the last of a group waits for two whose pictures are being encoded."""

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
    assert write.groups == [[150], [3, 3, 4, 4]]


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


def test_groups_are_bounded_and_then_fill_up() -> None:
    """Under load, those who wait start together instead of one by one."""

    async def scenario(writer: ContinuousWriter) -> None:
        tasks = []
        for _ in range(8):
            tasks.append(asyncio.create_task(writer.submit(context(6), None, later())))
            await asyncio.sleep(0.012)
        await asyncio.gather(*tasks)

    write = Lengths(step_s=0.02)
    drive(write, scenario, max_groups=2)
    assert len(write.groups) < 8 and max(map(len, write.groups)) > 1


def test_other_settings_are_another_group() -> None:
    """A beam search must not be mixed with greedy writing."""

    async def scenario(writer: ContinuousWriter) -> None:
        await asyncio.gather(*(writer.submit(context(3), n % 2, later()) for n in range(4)))

    write = Lengths()
    drive(write, scenario)
    assert write.groups == [[3, 3], [3, 3]]


def test_groups_take_turns_of_a_few_steps() -> None:
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


def test_a_failed_group_is_halved() -> None:
    """Not taken apart at once: one bad text among eight costs few beginnings, and few groups at a time."""

    async def scenario(writer: ContinuousWriter) -> tuple[list[Any], int]:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(writer._groups))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        texts = [writer.submit(context(n), None, later()) for n in (3, 3, 3, 3, 3, 13, 3, 3)]
        results = await asyncio.gather(*texts, return_exceptions=True)
        watching.cancel()
        return results, most

    write = Lengths()
    results, most = drive(write, scenario, max_groups=1)
    assert [isinstance(each, Written) for each in results] == [n != 5 for n in range(8)]
    begun = sorted(map(len, write.groups), reverse=True)
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
                max_groups=2,
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
