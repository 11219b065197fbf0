"""What happens around every request: its id, its size limit, its place in the metrics."""

from __future__ import annotations

import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlkd_serving.errors import BadRequestError, ServingError, TooLargeError
from vlkd_serving.handlers import error_response
from vlkd_serving.metrics import Metrics

__all__ = ["RequestMiddleware"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    """Plain ASGI middleware, so that bodies pass through it as they come.

    Args:
        app: the application inside.
        metrics: counts requests by route and status.
        max_body_bytes: a longer body gets 413 as soon as that is known: at once where it is declared.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event; anything but HTTP passes unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"]}
        request_id = self._request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        begin = time.perf_counter()
        status, started = 500, False

        async def send_marked(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode("ascii")),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            problem = self._declared_problem(headers)
            if problem is not None:
                await error_response(problem, request_id)(scope, receive, send_marked)
            else:
                await self._app(scope, self._limited(receive), send_marked)
        except Exception as error:  # what no handler of the application knows
            answer = error_response(error, request_id)
            if started:
                raise  # the status line has gone out: all that is left is to break the connection
            await answer(scope, receive, send_marked)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route=route, code=str(status)).inc()
            self._metrics.request_seconds.labels(route=route).observe(time.perf_counter() - begin)

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    def _declared_problem(self, headers: dict[bytes, bytes]) -> ServingError | None:
        declared = headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit() or len(declared) > 18:
            return BadRequestError("Content-Length must be a whole number.", "content-length")
        return self._too_large() if int(declared) > self._max_body_bytes else None

    def _limited(self, receive: Receive) -> Receive:
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"A request body may have at most {self._max_body_bytes} bytes.")
