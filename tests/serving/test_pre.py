"""Decoding and tokenising go on while something else is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import ModuleType

import pytest

from vlkd_serving.encoder_cache import EncoderCache
from vlkd_serving.metrics import Metrics
from vlkd_serving.pre import PrePool
from vlkd_serving.security.fetch import Fetcher
from vlkd_serving.settings import ServerSettings


def test_a_slow_host_keeps_nobody_from_being_decoded(
    fake: ModuleType, picture_bytes: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More URLs than threads wait for their host, and still a text is tokenised; then the pictures are decoded."""
    answers = threading.Event()

    def fetch(self: Fetcher, url: str, param: str | None = None) -> bytes:
        assert answers.wait(30)
        return picture_bytes("red")

    async def main() -> None:
        monkeypatch.setattr(Fetcher, "fetch", fetch)
        settings = ServerSettings(pre_workers=1, fetch_workers=2, fetch_hosts=("slow.example",))
        student, metrics = fake.FakeStudent(), Metrics()
        pre, cache = PrePool(settings, metrics), EncoderCache(0, metrics)
        deadline = asyncio.get_running_loop().time() + 30
        urls = [
            asyncio.create_task(pre.picture(f"http://slow.example/{n}", student, cache, "image", deadline))
            for n in range(3)
        ]
        await asyncio.sleep(0.05)
        try:
            assert len(await asyncio.wait_for(pre.tokens(["red"], student, deadline), 5)) == 1
        finally:
            answers.set()
        prepared = await asyncio.gather(*urls)
        assert [each.pixels is not None for each in prepared] == [True] * 3
        pre.shutdown()

    asyncio.run(main())
