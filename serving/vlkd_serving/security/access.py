"""ASGI middleware that lets in who may come: API keys, scopes, rate limits, and room in the engine."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from vlkd_serving.engine import Engine
from vlkd_serving.errors import ForbiddenError, ServingError, UnauthorizedError
from vlkd_serving.handlers import error_response
from vlkd_serving.security.key_file import KeyFile
from vlkd_serving.security.keys import ApiKey
from vlkd_serving.security.rate_limit import RateLimiter

__all__ = ["HEALTH_PATHS", "AccessMiddleware"]

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping"})
"""Open to everyone: what probes ask."""
WRITE_PREFIX = "/v1/index/"
"""Under it, everything but GET changes the index and needs the scope ``write``."""
_BEARER = "bearer "


class AccessMiddleware:
    """Decides before a byte of the body is read.

    Args:
        app: the application inside.
        engine: asked whether there is room, so that an overloaded server does not parse what it will turn away.
        keys: None lets everyone in.
        limiter: counts by key, or by address where there are no keys.
    """

    def __init__(self, app: ASGIApp, engine: Engine, keys: KeyFile | None, limiter: RateLimiter) -> None:
        self._app = app
        self._engine = engine
        self._keys = keys
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event; anything but HTTP passes unchanged."""
        if scope["type"] == "http" and scope["path"] not in HEALTH_PATHS:
            try:
                self._check(scope)
            except ServingError as problem:
                answer = error_response(problem, scope.get("state", {}).get("request_id", ""))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        reason = self._engine.metrics.rejected
        try:
            key = self._known(scope)
        except ServingError as problem:
            reason.labels(reason=problem.code).inc()
            raise
        client = scope.get("client")
        try:
            self._limiter.take(key.name if key is not None else str(client[0]) if client else "")
        except ServingError:
            reason.labels(reason="rate_limited").inc()
            raise
        scope.setdefault("state", {})["key"] = key.name if key is not None else None
        if scope["method"] in ("POST", "PUT"):
            self._engine.require_ready()
            self._engine.admission.require_room()

    def _known(self, scope: Scope) -> ApiKey | None:
        if self._keys is None:
            return None
        given = _presented(scope)
        key = self._keys.find(given) if given else None
        if key is None:
            raise UnauthorizedError("Send a valid API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.")
        writes = scope["path"].startswith(WRITE_PREFIX) and scope["method"] not in ("GET", "HEAD")
        needed = "write" if writes else "read"
        if needed not in key.scopes:
            raise ForbiddenError(f"This key has no scope '{needed}'.")
        return key


def _presented(scope: Scope) -> str:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    bearer = headers.get(b"authorization", b"").decode("latin-1")
    if bearer[: len(_BEARER)].lower() == _BEARER:
        return bearer[len(_BEARER) :].strip()
    return headers.get(b"x-api-key", b"").decode("latin-1").strip()
