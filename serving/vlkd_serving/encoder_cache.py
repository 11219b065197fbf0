"""One encoding a picture: what caption, question, search and embedding of the same picture share."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from vlkd_serving.errors import DeadlineError
from vlkd_serving.metrics import Metrics
from vlkd_serving.protocol import EncodedPicture

__all__ = ["EncoderCache", "picture_key"]


@dataclass
class _Run:
    """One run of the encoder and how many wait for it."""

    future: asyncio.Future[EncodedPicture]
    waiters: int = 0


def picture_key(content: bytes) -> bytes:
    """Identity of an encoded picture: the SHA-256 of its bytes."""
    return hashlib.sha256(content).digest()


class EncoderCache:
    """Keeps the encodings of the pictures seen last, and lets simultaneous askers share one run.

    Args:
        max_bytes: of all encodings together; 0 keeps none (simultaneous askers still share).
        metrics: hits and misses, and who came too late.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._hits, self._misses, self._shares = (
            metrics.picture_cache.labels(result=result) for result in ("hit", "miss", "shared")
        )
        self._kept: OrderedDict[bytes, EncodedPicture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._running: dict[bytes, _Run] = {}

    def get(self, key: bytes) -> EncodedPicture | None:
        """What is kept under ``key``; safe to call from any thread."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                self._hits.inc()
            return found

    async def encode(self, key: bytes, run: Callable[[], Awaitable[EncodedPicture]], deadline: float) -> EncodedPicture:
        """The encoding under ``key``: being made for someone else already, or made by ``run``.

        The run goes on while anyone waits for it, and is cancelled when the last one leaves.

        Args:
            key: see :func:`picture_key`.
            run: starts the encoder; its errors reach all who wait, and are not kept.
            deadline: of this asker, on the event loop's clock.

        Raises:
            DeadlineError: not ready in time.
        """
        shared = self._running.get(key)
        (self._misses if shared is None else self._shares).inc()
        if shared is None:
            future = asyncio.ensure_future(run())
            shared = self._running[key] = _Run(future)
            future.add_done_callback(lambda done: self._ended(key, done))
        shared.waiters += 1
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(shared.future)
        except TimeoutError:
            self._metrics.rejected.labels(reason="deadline").inc()
            raise DeadlineError("The answer was not ready in time.") from None
        finally:
            shared.waiters -= 1
            if not shared.waiters and not shared.future.done():
                self._forget(key, shared.future)  # it ends in a later turn of the loop: nobody may join it until then
                shared.future.cancel()

    def _ended(self, key: bytes, future: asyncio.Future[EncodedPicture]) -> None:
        """Keep what came of a run; called before those who wait hear of it."""
        self._forget(key, future)
        if not future.cancelled() and future.exception() is None:
            self._keep(key, future.result())

    def _forget(self, key: bytes, future: asyncio.Future[EncodedPicture]) -> None:
        """Let nobody join a run any more; another one under the same key stays."""
        shared = self._running.get(key)
        if shared is not None and shared.future is future:
            del self._running[key]

    def _keep(self, key: bytes, encoded: EncodedPicture) -> None:
        with self._lock:
            if encoded.nbytes > self._max_bytes or key in self._kept:
                return
            self._kept[key] = encoded
            self._bytes += encoded.nbytes
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes

    def __len__(self) -> int:
        return len(self._kept)
