"""The first stage of every request: untrusted bytes and texts become arrays, on a bounded pool of threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from vlkd_serving.encoder_cache import EncoderCache, picture_key
from vlkd_serving.errors import DeadlineError
from vlkd_serving.images import PictureLimits, decode_base64, decode_picture
from vlkd_serving.index import Hit
from vlkd_serving.index.search import SearchView
from vlkd_serving.metrics import Metrics
from vlkd_serving.protocol import EncodedPicture, Floats, MatchItem, Parts
from vlkd_serving.security.fetch import Fetcher, is_url
from vlkd_serving.settings import ServerSettings

__all__ = ["Picture", "PrePool", "PreparedPicture", "run_on"]

Picture: TypeAlias = bytes | str
"""An encoded picture: its bytes, or base64 / data URL text."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class PreparedPicture:
    """A picture's identity with either its encoding, where that is known already, or its pixels, (3, H, W)."""

    key: bytes
    encoded: EncodedPicture | None = None
    pixels: Floats | None = None


class PrePool:
    """Decodes, preprocesses and tokenises, and searches an index. Admission bounds what can wait for its threads.

    Pictures are fetched on threads of their own: a slow host keeps nobody else from being decoded.

    Args:
        settings: numbers of threads, the limits of a picture and of a filter.
        metrics: counts what comes too late.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._pool = ThreadPoolExecutor(settings.pre_workers, thread_name_prefix="vlkd-pre")
        self._fetching = ThreadPoolExecutor(settings.fetch_workers, thread_name_prefix="vlkd-fetch")
        self._metrics = metrics
        self._filter_s = settings.filter_s
        self._fetcher = (
            Fetcher(settings.fetch_hosts, settings.max_picture_bytes, settings.fetch_timeout_s)
            if settings.fetch_hosts
            else None
        )
        self._limits = PictureLimits(
            max_bytes=settings.max_picture_bytes,
            max_pixels=settings.max_picture_pixels,
            max_aspect_ratio=settings.max_aspect_ratio,
        )

    async def picture(
        self, picture: Picture, parts: Parts, cache: EncoderCache, param: str, deadline: float
    ) -> PreparedPicture:
        """Decode and preprocess one picture, unless its encoding is in ``cache``.

        Raises:
            ServingError: it cannot be used; ``param`` names the field.
            DeadlineError: not done in time.
        """
        found = await self._fetched(picture, param, deadline)

        def work() -> PreparedPicture:
            content = self._bytes(found, param)
            key = picture_key(content)
            encoded = cache.get(key)
            if encoded is not None:
                return PreparedPicture(key, encoded)
            return PreparedPicture(key, None, parts.preprocess(decode_picture(content, self._limits, param)))

        return await self.run(work, deadline)

    async def match_item(self, picture: Picture, text: str, parts: Parts, param: str, deadline: float) -> MatchItem:
        """Decode a picture and cut a text into words, to be compared.

        Raises:
            ServingError: the picture cannot be used; ``param`` names the field.
            DeadlineError: not done in time.
        """
        found = await self._fetched(picture, param, deadline)
        return await self.run(
            lambda: parts.match_item(decode_picture(self._bytes(found, param), self._limits, param), text), deadline
        )

    async def _fetched(self, picture: Picture, param: str, deadline: float) -> Picture:
        """The bytes behind a URL, where those are fetched; any other picture as it is."""
        fetcher = self._fetcher
        if fetcher is None or isinstance(picture, bytes) or not is_url(picture):
            return picture
        return await run_on(self._fetching, lambda: fetcher.fetch(picture, param), deadline, self._metrics)

    def _bytes(self, picture: Picture, param: str) -> bytes:
        return picture if isinstance(picture, bytes) else decode_base64(picture, self._limits, param)

    async def tokens(self, texts: Sequence[str], parts: Parts, deadline: float) -> list[list[int]]:
        """Token ids of each text."""
        return await self.run(lambda: [parts.tokenize(text) for text in texts], deadline)

    async def search(
        self, view: SearchView, query: Floats, k: int, deadline: float, *, offset: int = 0, where: str | None = None
    ) -> list[Hit]:
        """:meth:`SearchView.search` for a vector (D,), within the time that its filter may take.

        Raises:
            WhereError: the filter cannot be read, or takes longer than that or than the request has.
            DeadlineError: not done in time.
        """
        last = time.monotonic() + deadline - asyncio.get_running_loop().time()

        def work() -> list[Hit]:
            until = min(last, time.monotonic() + self._filter_s)
            return view.search(query, k, offset=offset, where=where, until=until)

        return await self.run(work, deadline)

    async def run(self, work: Callable[[], Value], deadline: float) -> Value:
        """Run ``work`` on the pool.

        Raises:
            DeadlineError: as :func:`run_on`.
        """
        return await run_on(self._pool, work, deadline, self._metrics)

    def shutdown(self) -> None:
        """End the threads; what still waits is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)


async def run_on(pool: Executor, work: Callable[[], Value], deadline: float, metrics: Metrics) -> Value:
    """Run ``work`` on a thread of a pool.

    Raises:
        DeadlineError: not done in time. What waits for a thread is taken back; what runs already ends unheard.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await asyncio.get_running_loop().run_in_executor(pool, work)
    except TimeoutError:
        metrics.rejected.labels(reason="deadline").inc()
        raise DeadlineError("The answer was not ready in time.") from None
