"""Notice that a client has gone, and stop the work that nobody waits for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["DisconnectMiddleware"]

CLOSED = 499
"""Status under which such requests are counted; nobody receives it."""


class DisconnectMiddleware:
    """Cancels a request when its client disconnects before the answer is complete.

    Watching starts when the body has been read; until then the reader itself sees the disconnect.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event; anything but HTTP passes unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive)
        try:
            await self._app(scope, watch.receive, watch.sender(send))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not watch.gone or task is None:
                raise
            task.uncancel()
            scope.setdefault("state", {})["status"] = CLOSED
        finally:
            await watch.end()


class _Watch:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._request = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._event = asyncio.Event()
        self._answered = False
        self.gone = False

    async def receive(self) -> Message:
        """The body's messages; behind its end, the disconnect when it comes."""
        if self._task is not None:
            await self._event.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._task = asyncio.create_task(self._wait())
        return message

    def sender(self, send: Send) -> Send:
        """``send``, which notes when the answer is complete."""

        async def noted(message: Message) -> Any:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._answered = True
            await send(message)

        return noted

    async def end(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._event.set()
        if not self._answered and self._request is not None:
            self.gone = True
            self._request.cancel()
