"""A load generator that costs little itself: prepared bytes over kept connections."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Connection", "Sample", "build_request", "closed_loop", "open_loop", "percentile"]

NO_ANSWER = 0
"""Status of a request whose connection broke."""
_IDLE_S = 2.0
"""A connection that lay idle longer is opened anew: servers close those, uvicorn after 5 s, perhaps as we write."""


@dataclass(frozen=True)
class Sample:
    """One request: its status, when it was sent (seconds since the start) and how long its answer took."""

    status: int
    sent_s: float
    seconds: float


def build_request(url: str, path: str, body: bytes, content_type: str) -> bytes:
    """The bytes of one POST request over HTTP/1.1."""
    host = urlsplit(url).netloc
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def percentile(samples: Sequence[float], share: float) -> float:
    """The value under which ``share`` (0 to 1) of the samples lie; NaN where there are none."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Connection:
    """One kept connection; it opens itself again when the server has closed it.

    Args:
        url: ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._used = 0.0

    async def ask(self, request: bytes) -> int:
        """Send one request and read its whole answer; returns its status, 0 where the connection broke."""
        try:
            stale = time.perf_counter() - self._used > _IDLE_S
            if stale or self._writer is None or self._reader is None or self._reader.at_eof():
                self.close()
                self._reader, self._writer = await asyncio.open_connection(*self._address)
            self._writer.write(request)
            status = await self._read(self._reader)
            self._used = time.perf_counter()
            return status
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return NO_ANSWER

    async def _read(self, reader: asyncio.StreamReader) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at >= 0:
            await reader.readexactly(int(lower[at + 15 : lower.index(b"\r", at)]))
        if b"connection: close" in lower:
            self.close()
        return status

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def closed_loop(url: str, requests: Sequence[bytes], concurrency: int, count: int) -> list[Sample]:
    """``concurrency`` clients, each of which sends its next request when the last is answered, ``count`` together."""
    turn = itertools.count()
    samples: list[Sample] = []
    begin = time.perf_counter()

    async def client() -> None:
        connection = Connection(url)
        while (number := next(turn)) < count:
            sent = time.perf_counter()
            status = await connection.ask(requests[number % len(requests)])
            samples.append(Sample(status, sent - begin, time.perf_counter() - sent))
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return samples


async def open_loop(url: str, requests: Sequence[bytes], per_second: float, seconds: float) -> list[Sample]:
    """Requests at a fixed rate, whatever becomes of the earlier ones, as from very many clients."""
    idle: list[Connection] = []
    samples: list[Sample] = []
    begin = time.perf_counter()

    async def one(number: int) -> None:
        connection = idle.pop() if idle else Connection(url)
        sent = time.perf_counter()
        status = await connection.ask(requests[number % len(requests)])
        samples.append(Sample(status, sent - begin, time.perf_counter() - sent))
        idle.append(connection)

    tasks = []
    for number in range(int(per_second * seconds)):
        wait = begin + number / per_second - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return samples
