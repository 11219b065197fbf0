"""What is known of the request at hand, wherever in its task one asks."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["RequestContext", "current", "enter"]


@dataclass(frozen=True)
class RequestContext:
    """Set once by the middleware, read by the engine and the logs."""

    request_id: str = ""
    priority: int = 0
    """Higher goes first: 1 interactive, 0 normal, -1 for bulk work."""
    timeout_s: float | None = None
    """The client's own deadline; the server's applies as well."""


_NONE = RequestContext()
_CURRENT: ContextVar[RequestContext] = ContextVar("vlkd_request")


def current() -> RequestContext:
    """The context of this request; an empty one outside of any."""
    return _CURRENT.get(_NONE)


def enter(context: RequestContext) -> None:
    """Make ``context`` that of this task and of the tasks it starts."""
    _CURRENT.set(context)
