"""One encoding a picture, whoever asks, and no more memory than allowed."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from vlkd_serving.encoder_cache import EncoderCache, picture_key
from vlkd_serving.errors import DeadlineError
from vlkd_serving.metrics import Metrics
from vlkd_serving.protocol import EncodedPicture


def encoded(value: float) -> EncodedPicture:
    """1,000 bytes."""
    return EncodedPicture(np.full(50, value, np.float32), np.full((20, 10), value, np.float32))


class Encoder:
    """Counts its runs."""

    def __init__(self, delay_s: float = 0.05, error: Exception | None = None) -> None:
        self.runs, self.ended, self.delay_s, self.error = 0, 0, delay_s, error

    async def __call__(self) -> EncodedPicture:
        self.runs += 1
        await asyncio.sleep(self.delay_s)
        self.ended += 1
        if self.error is not None:
            raise self.error
        return encoded(1.0)


def later(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_simultaneous_askers_share_one_run() -> None:
    """And the next one finds it kept."""

    async def main() -> None:
        cache, run = EncoderCache(10_000, Metrics()), Encoder()
        results = await asyncio.gather(*(cache.encode(b"k", run, later()) for _ in range(5)))
        assert run.runs == 1 and all(each is results[0] for each in results)
        assert cache.get(b"k") is results[0]

    asyncio.run(main())


def test_one_asker_that_leaves_does_not_disturb_the_others() -> None:
    """Only when nobody waits any more does the run end."""

    async def main() -> None:
        cache, run = EncoderCache(10_000, Metrics()), Encoder(0.1)
        first = asyncio.create_task(cache.encode(b"k", run, later()))
        second = asyncio.create_task(cache.encode(b"k", run, later()))
        await asyncio.sleep(0.02)
        first.cancel()
        assert (await second).embedding[0] == 1 and run.runs == 1
        third = asyncio.create_task(cache.encode(b"other", run, later()))
        await asyncio.sleep(0.02)
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        await asyncio.sleep(0.15)
        assert (run.runs, run.ended) == (2, 1)

    asyncio.run(main())


def test_nobody_joins_a_run_that_was_given_up() -> None:
    """Who asks in the turn of the loop in which the last asker left gets a run of its own, not its cancellation."""

    async def main() -> None:
        cache, run = EncoderCache(10_000, Metrics()), Encoder(0.05)
        leaves = asyncio.create_task(cache.encode(b"k", run, later()))
        await asyncio.sleep(0.01)
        leaves.cancel()
        comes = asyncio.create_task(cache.encode(b"k", run, later()))
        assert (await comes).embedding[0] == 1 and leaves.cancelled() and (run.runs, run.ended) == (2, 1)

    asyncio.run(main())


def test_deadlines_are_each_askers_own() -> None:
    """The impatient one gives up and is counted, the patient one is answered."""

    async def main() -> None:
        metrics = Metrics()
        cache, run = EncoderCache(10_000, metrics), Encoder(0.1)
        results: list[Any] = await asyncio.gather(
            cache.encode(b"k", run, later(0.02)), cache.encode(b"k", run, later()), return_exceptions=True
        )
        assert isinstance(results[0], DeadlineError) and isinstance(results[1], EncodedPicture)
        assert metrics.registry.get_sample_value("vlkd_rejected_total", {"reason": "deadline"}) == 1

    asyncio.run(main())


def test_errors_are_not_kept() -> None:
    """A picture that failed once is tried again."""

    async def main() -> None:
        cache, run = EncoderCache(10_000, Metrics()), Encoder(0.0, ValueError("broken"))
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                await cache.encode(b"k", run, later())
        assert run.runs == 2 and cache.get(b"k") is None

    asyncio.run(main())


def test_memory_is_bounded() -> None:
    """The one not used for longest goes first; 0 keeps nothing."""

    async def main() -> None:
        cache = EncoderCache(3_000, Metrics())
        for name in (b"a", b"b", b"c"):
            await cache.encode(name, Encoder(0.0), later())
        cache.get(b"a")
        await cache.encode(b"d", Encoder(0.0), later())
        assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
        none = EncoderCache(0, Metrics())
        await none.encode(b"a", Encoder(0.0), later())
        assert len(none) == 0

    asyncio.run(main())


def test_the_key_is_of_the_bytes() -> None:
    """Another byte, another picture."""
    assert picture_key(b"a") == picture_key(b"a") != picture_key(b"b")
