"""What happens around every request: its id, deadline and size limit; its span, log line and metrics."""

from __future__ import annotations

import random
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlkd_serving.bodies import BodyLimits
from vlkd_serving.context import RequestContext, enter
from vlkd_serving.errors import BadRequestError, ServingError
from vlkd_serving.handlers import error_response
from vlkd_serving.logs import log_request
from vlkd_serving.metrics import Metrics
from vlkd_serving.tracing import request_span, trace_id

__all__ = ["RequestMiddleware"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_IDS = random.Random()
"""A name, no secret: the system's own source lets go of the interpreter, and waits for it under load."""
_PRIORITIES = {b"interactive": 1, b"normal": 0, b"bulk": -1}
_TIMEOUT_MS = re.compile(rb"[0-9]{1,7}")


class RequestMiddleware:
    """Plain ASGI middleware, so that bodies pass through it as they come.

    Args:
        app: the application inside.
        metrics: counts requests by route and status.
        bodies: a body beyond its limits is refused as soon as that is known: at once where its length is declared.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, bodies: BodyLimits) -> None:
        self._app = app
        self._metrics = metrics
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event; anything but HTTP passes unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_id(headers)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        begin = time.perf_counter()
        outgoing = _Outgoing(send, request_id)
        with request_span(f"{scope['method']} {scope['path']}", headers, request_id=request_id) as current:
            try:
                enter(self._context(headers, request_id))
                await self._answer(scope, headers, receive, outgoing)
            finally:
                status = state.get("status", outgoing.status)
                route = getattr(scope.get("route"), "path", "unmatched")
                seconds = time.perf_counter() - begin
                self._metrics.requests.labels(route=route, code=str(status)).inc()
                self._metrics.request_seconds.labels(route=route).observe(seconds)
                if current is not None:
                    current.set_attribute("http.route", route)
                    current.set_attribute("http.response.status_code", status)
                key, trace = state.get("key"), trace_id(current)
                log_request(scope["method"], route, status, seconds * 1000, request_id, key, trace)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, outgoing: _Outgoing) -> None:
        problem = self._declared_problem(headers)
        try:
            if problem is not None:
                raise problem
            with self._bodies.reading(receive) as limited:
                await self._app(scope, limited, outgoing)
        except Exception as error:  # what no handler of the application knows
            if outgoing.started:
                raise  # the status line has gone out: all that is left is to break the connection
            await error_response(error, scope["state"]["request_id"])(scope, receive, outgoing)

    def _context(self, headers: dict[bytes, bytes], request_id: str) -> RequestContext:
        """Priority and deadline of a request; what cannot be read is passed over, as the defaults do no harm."""
        priority = _PRIORITIES.get(headers.get(b"x-priority", b"normal").lower(), 0)
        limit = headers.get(b"x-timeout-ms", b"")
        timeout_s = int(limit) / 1000 if _TIMEOUT_MS.fullmatch(limit) else None
        return RequestContext(request_id, priority, timeout_s)

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        return given if _REQUEST_ID.fullmatch(given) else f"{_IDS.getrandbits(128):032x}"

    def _declared_problem(self, headers: dict[bytes, bytes]) -> ServingError | None:
        declared = headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit() or len(declared) > 18:
            return BadRequestError("Content-Length must be a whole number.", "content-length")
        return self._bodies.too_large() if self._bodies.declared_too_large(int(declared)) else None


class _Outgoing:
    """``send`` that marks every answer with the request's id, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 500
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.started = message["status"], True
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self._request_id.encode("ascii")),
                (b"x-content-type-options", b"nosniff"),
            ]
        await self._send(message)
