"""What requests' bodies may cost while they are read: bytes of one, bytes of all together, and time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive

from vlkd_serving.errors import DeadlineError, OverloadedError, TooLargeError
from vlkd_serving.metrics import Metrics

__all__ = ["BodyLimits"]


class BodyLimits:
    """Limits on the bodies of all requests that are open.

    Admission counts work that has been read; before that, many slow uploads could fill the memory or hold connections
    for ever.

    Args:
        each: most bytes of one body.
        together: most bytes of all open requests' bodies.
        seconds: longest time in which a body comes.
        metrics: counts refusals.
    """

    def __init__(self, each: int, together: int, seconds: float, metrics: Metrics) -> None:
        self._each = each
        self._together = together
        self._seconds = seconds
        self._metrics = metrics
        self._held = 0

    @contextmanager
    def reading(self, receive: Receive) -> Iterator[Receive]:
        """``receive`` for one request, within the limits; its bytes count until the body of the ``with`` ends.

        Raises:
            TooLargeError: more bytes than one body may have.
            OverloadedError: more than all may have together.
            DeadlineError: the body did not come in time.
        """
        body = _Body(self, receive)
        try:
            yield body.receive
        finally:
            self._held -= body.received

    def too_large(self) -> TooLargeError:
        """For a body that is longer than one may be."""
        return TooLargeError(f"A request body may have at most {self._each} bytes.")

    def declared_too_large(self, length: int) -> bool:
        """Whether a body of so many bytes is refused before it comes."""
        return length > self._each

    async def next_part(self, receive: Receive, until: float) -> Message:
        """The next message of a body that must be whole by ``until``, on the event loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                return await receive()
        except TimeoutError:
            self._metrics.rejected.labels(reason="deadline").inc()
            raise DeadlineError(f"The request's body did not come within {self._seconds:g} seconds.") from None

    def until(self) -> float:
        """When a body that begins now must be whole."""
        return asyncio.get_running_loop().time() + self._seconds

    def hold(self, received: int, more: int) -> None:
        """Count ``more`` bytes of a body of which ``received`` came in all."""
        self._held += more
        if received > self._each:
            raise self.too_large()
        if self._held > self._together:
            self._metrics.rejected.labels(reason="bodies").inc()
            raise OverloadedError("The server is reading as many request bodies as it may hold; retry shortly.")


class _Body:
    def __init__(self, limits: BodyLimits, receive: Receive) -> None:
        self._limits = limits
        self._receive = receive
        self._until = limits.until()
        self._whole = False
        self.received = 0

    async def receive(self) -> Message:
        """The next message; behind the body's end only the client's leaving is waited for, however long."""
        if self._whole:
            return await self._receive()
        message = await self._limits.next_part(self._receive, self._until)
        more = len(message.get("body", b""))
        self.received += more
        self._limits.hold(self.received, more)
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
