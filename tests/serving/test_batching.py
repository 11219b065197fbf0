"""The dynamic batcher: order, company, isolation, deadlines, bounds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vlkd_serving.batching import DynamicBatcher
from vlkd_serving.errors import DeadlineError, OverloadedError, UnavailableError, UnprocessableError
from vlkd_serving.metrics import Metrics
from vlkd_serving.slots import Slots


def drive(
    run: Callable[[Sequence[Any], Any], Sequence[Any]],
    scenario: Callable[[DynamicBatcher[Any, Any]], Awaitable[Any]],
    threads: int = 1,
    **options: Any,
) -> Any:
    """Run a scenario on a started batcher, with as many batches at once as threads."""

    async def main() -> Any:
        settings = {"max_batch": 8, "enough": 8, "max_delay_s": 0.05, "max_queue": 32, **options}
        with ThreadPoolExecutor(threads) as executor:
            slots = Slots(threads)
            batcher: DynamicBatcher[Any, Any] = DynamicBatcher(
                "part", run, executor=executor, slots=slots, at_once=threads, metrics=Metrics(), **settings
            )
            batcher.start()
            try:
                return await scenario(batcher)
            finally:
                await batcher.stop()

    return asyncio.run(asyncio.wait_for(main(), 10))


def later(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


class Recorder:
    """Doubles numbers; keeps the batches; an item 13 makes its batch fail."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.delay_s = delay_s

    def __call__(self, items: Sequence[int], key: Any) -> list[int]:
        self.batches.append(list(items))
        time.sleep(self.delay_s)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


def test_results_go_to_their_own_callers_in_full_batches() -> None:
    """20 at once, batches of at most 8, in order of arrival."""
    recorder = Recorder()

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[int]:
        return await asyncio.gather(*(batcher.submit(n, later()) for n in range(20, 40)))

    assert drive(recorder, scenario) == [2 * n for n in range(20, 40)]
    assert [len(batch) for batch in recorder.batches] == [8, 8, 4]
    assert sum(recorder.batches, []) == list(range(20, 40))


class Overlap(Recorder):
    """Also knows how many batches ran at the same time, and which began beside another."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(delay_s)
        self.running = 0
        self.most = 0
        self.beside: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, items: Sequence[int], key: Any) -> list[int]:
        with self.lock:
            if self.running:
                self.beside.append(len(items))
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return super().__call__(items, key)
        finally:
            with self.lock:
                self.running -= 1


def test_a_second_batch_runs_beside_the_first_once_it_is_half_full() -> None:
    """Fewer wait for its end: two small batches would only be in each other's way."""
    overlap = Overlap(0.05)

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[int]:
        tasks = [asyncio.create_task(batcher.submit(n, later())) for n in range(8)]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(batcher.submit(n, later())) for n in range(8, 11)]
        await asyncio.sleep(0.01)
        assert overlap.most == 1  # three of eight wait
        tasks.append(asyncio.create_task(batcher.submit(11, later())))
        await asyncio.sleep(0.01)
        assert overlap.most == 2
        return await asyncio.gather(*tasks)

    assert drive(overlap, scenario, threads=2) == [2 * n for n in range(12)]
    assert [len(batch) for batch in overlap.batches] == [8, 4] and overlap.beside == [4]


@pytest.mark.parametrize("count", [1, 9])
def test_one_item_does_not_wake_two_workers(count: int) -> None:
    """What one of them can take, or what is left over, gets no batch of its own beside it."""
    overlap = Overlap(0.03)

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[int]:
        first = [asyncio.create_task(batcher.submit(n, later())) for n in range(count)]
        await asyncio.sleep(0.002)
        return await asyncio.gather(*first, batcher.submit(50, later()))

    drive(overlap, scenario, threads=2)
    assert overlap.most == 1 and [len(batch) for batch in overlap.batches] == {1: [1, 1], 9: [8, 2]}[count]


def test_many_items_keep_both_threads_at_work() -> None:
    """Nothing is lost or run twice, no batch is too large, and nothing that is left over waits for ever."""
    overlap = Overlap(0.003)

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[int]:
        async def one(n: int) -> int:
            await asyncio.sleep(n % 7 / 1000)
            return await batcher.submit(n, later())

        return await asyncio.gather(*(one(n) for n in range(100, 301)))

    assert drive(overlap, scenario, threads=2, max_queue=300) == [2 * n for n in range(100, 301)]
    assert overlap.most == 2 and max(map(len, overlap.batches)) <= 8
    assert sorted(sum(overlap.batches, [])) == list(range(100, 301))


def test_a_lone_item_never_waits_for_company() -> None:
    """The delay is for items known to be on their way; an idle server answers at once."""

    async def scenario(batcher: DynamicBatcher[int, int]) -> float:
        begin = time.perf_counter()
        await batcher.submit(1, later())
        return time.perf_counter() - begin

    assert drive(Recorder(), scenario, max_delay_s=3.0) < 1.0


def test_expected_items_share_the_batch() -> None:
    """One item is ready, another is still being decoded: they run together."""
    recorder = Recorder()

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[int]:
        async def slow() -> int:
            with batcher.expect():
                await asyncio.sleep(0.05)
            return await batcher.submit(2, later())

        return await asyncio.gather(slow(), batcher.submit(1, later()))

    assert drive(recorder, scenario, max_delay_s=2.0) == [4, 2]
    assert recorder.batches == [[1, 2]]


def test_enough_items_do_not_wait_for_more() -> None:
    """A batch that is efficient already starts, whoever else is still being decoded."""
    recorder = Recorder()

    async def scenario(batcher: DynamicBatcher[int, int]) -> float:
        with batcher.expect(5):
            begin = time.perf_counter()
            await asyncio.gather(batcher.submit(1, later()), batcher.submit(2, later()))
            return time.perf_counter() - begin

    assert drive(recorder, scenario, enough=2, max_delay_s=3.0) < 1.0
    assert recorder.batches == [[1, 2]]


def test_an_expected_item_that_never_comes_costs_the_delay_at_most() -> None:
    """A client that uploads slowly must not hold the others up."""

    async def scenario(batcher: DynamicBatcher[int, int]) -> float:
        with batcher.expect():
            begin = time.perf_counter()
            await batcher.submit(1, later())
            return time.perf_counter() - begin

    assert 0.04 <= drive(Recorder(), scenario, max_delay_s=0.05) < 1.0


def test_what_arrives_during_a_batch_forms_the_next() -> None:
    """Natural batching under load."""
    recorder = Recorder(delay_s=0.1)

    async def scenario(batcher: DynamicBatcher[int, int]) -> None:
        first = asyncio.create_task(batcher.submit(0, later()))
        await asyncio.sleep(0.03)
        await asyncio.gather(first, *(batcher.submit(n, later()) for n in range(1, 6)))

    drive(recorder, scenario)
    assert recorder.batches == [[0], [1, 2, 3, 4, 5]]


def test_one_bad_item_fails_alone() -> None:
    """Seven right answers and one error; the next batch is fine."""

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        items = [10, 11, 12, 13, 14, 15, 16, 17]
        results = await asyncio.gather(*(batcher.submit(n, later()) for n in items), return_exceptions=True)
        return [*results, await batcher.submit(5, later())]

    results = drive(Recorder(), scenario)
    assert [r for r in results if not isinstance(r, Exception)] == [20, 22, 24, 28, 30, 32, 34, 10]
    assert isinstance(results[3], UnprocessableError) and "thirteen" not in str(results[3])


def test_who_is_to_blame_for_a_failure() -> None:
    """An item that fails alone is, where the part still runs what it ran before; else the part's own error is told."""
    broken = threading.Event()

    def run(items: Sequence[int], key: Any) -> Sequence[int]:
        if 13 in items or broken.is_set():
            raise ValueError("thirteen")
        return items

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        results = []
        for item in (13, 1, 13):
            results += await asyncio.gather(batcher.submit(item, later()), return_exceptions=True)
        broken.set()
        return [*results, *await asyncio.gather(batcher.submit(2, later()), return_exceptions=True)]

    unknown, good, item, part = drive(run, scenario)
    assert isinstance(unknown, ValueError) and good == 1
    assert isinstance(item, UnprocessableError) and isinstance(part, ValueError)


def test_stopping_while_a_failed_batch_is_halved_fails_the_rest() -> None:
    """Those whose half has not been run yet do not wait for their deadline."""
    recorder = Recorder(delay_s=0.2)

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        tasks = [asyncio.create_task(batcher.submit(n, later())) for n in (13, 1, 2, 3)]
        await asyncio.sleep(0.3)
        await batcher.stop()
        begin = time.perf_counter()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return [*results, time.perf_counter() - begin]

    *results, seconds = drive(recorder, scenario)
    assert all(isinstance(result, UnavailableError) for result in results) and seconds < 1


def test_a_wrong_number_of_results_is_an_error_for_all() -> None:
    """A model that drops a row must not shift the answers of the others."""

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        return await asyncio.gather(*(batcher.submit(n, later()) for n in range(3)), return_exceptions=True)

    results = drive(lambda items, key: [0] * (len(items) + 1), scenario)
    assert all(isinstance(result, RuntimeError) for result in results)


def test_items_of_different_options_never_share_a_batch() -> None:
    """A beam of 4 must not be run with a greedy neighbour's options."""
    keys: list[tuple[Any, list[int]]] = []

    def run(items: Sequence[int], key: Any) -> Sequence[int]:
        keys.append((key, list(items)))
        return items

    async def scenario(batcher: DynamicBatcher[int, int]) -> None:
        await asyncio.gather(*(batcher.submit(n, later(), key="even" if n % 2 == 0 else "odd") for n in range(6)))

    drive(run, scenario)
    assert keys == [("even", [0, 2, 4]), ("odd", [1, 3, 5])]


def test_higher_priorities_go_first() -> None:
    """Bulk work waits while people do not."""
    recorder = Recorder(delay_s=0.05)

    async def scenario(batcher: DynamicBatcher[int, int]) -> None:
        first = asyncio.create_task(batcher.submit(0, later()))
        await asyncio.sleep(0.02)
        rest = [(1, -1), (2, 0), (3, 1), (4, 1), (5, -1)]
        await asyncio.gather(first, *(batcher.submit(n, later(), priority=priority) for n, priority in rest))

    drive(recorder, scenario, max_batch=2)
    assert recorder.batches == [[0], [3, 4], [2, 1], [5]]


def test_a_batch_holds_items_of_similar_length() -> None:
    """The oldest starts it; padding a short text to the length of a long one would be wasted work."""
    recorder = Recorder(delay_s=0.05)

    async def scenario(batcher: DynamicBatcher[int, int]) -> None:
        first = asyncio.create_task(batcher.submit(0, later()))
        await asyncio.sleep(0.02)
        lengths = [30, 5, 31, 6, 29, 4]
        await asyncio.gather(first, *(batcher.submit(100 + n, later(), length=n) for n in lengths))

    drive(recorder, scenario, max_batch=3)
    assert recorder.batches == [[0], [130, 131, 129], [105, 106, 104]]


def test_an_expired_item_never_enters_a_batch() -> None:
    """Its caller has gone: running it would only delay the others."""
    recorder = Recorder(delay_s=0.2)

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        first = asyncio.create_task(batcher.submit(1, later()))
        await asyncio.sleep(0.02)
        return await asyncio.gather(
            first, batcher.submit(2, later(0.05)), batcher.submit(3, later()), return_exceptions=True
        )

    results = drive(recorder, scenario)
    assert (results[0], results[2]) == (2, 6) and isinstance(results[1], DeadlineError)
    assert recorder.batches == [[1], [3]]


def test_a_cancelled_item_never_enters_a_batch() -> None:
    """A client that disconnected."""
    recorder = Recorder(delay_s=0.1)

    async def scenario(batcher: DynamicBatcher[int, int]) -> None:
        first = asyncio.create_task(batcher.submit(1, later()))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(batcher.submit(2, later()))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    drive(recorder, scenario)
    assert recorder.batches == [[1]]


def test_a_full_queue_turns_away() -> None:
    """The bound holds, and the items inside it are answered."""
    gate = threading.Event()

    def run(items: Sequence[int], key: Any) -> Sequence[int]:
        gate.wait(5)
        return items

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        first = asyncio.create_task(batcher.submit(0, later()))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.submit(n, later())) for n in range(1, 6)]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    results = drive(run, scenario, max_queue=3)
    assert results[:4] == [0, 1, 2, 3] and all(isinstance(result, OverloadedError) for result in results[4:])


def test_stopping_fails_what_waits() -> None:
    """Nobody hangs on a batcher that is gone."""
    recorder = Recorder(delay_s=0.5)

    async def scenario(batcher: DynamicBatcher[int, int]) -> list[Any]:
        tasks = [asyncio.create_task(batcher.submit(n, later())) for n in range(2)]
        await asyncio.sleep(0.02)
        tasks.append(asyncio.create_task(batcher.submit(9, later())))
        await asyncio.sleep(0.02)
        await batcher.stop()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(UnavailableError):
            await batcher.submit(1, later())
        return results

    assert all(isinstance(result, UnavailableError) for result in drive(recorder, scenario))
