"""Errors that a client of the server may see, each with its HTTP status and a stable code."""

from __future__ import annotations

from vlkd_hub.errors import VlkdError

__all__ = [
    "BadRequestError",
    "DeadlineError",
    "ForbiddenError",
    "NotFoundError",
    "OverloadedError",
    "RateLimitedError",
    "ServingError",
    "TooLargeError",
    "UnauthorizedError",
    "UnavailableError",
    "UnprocessableError",
    "UnsupportedMediaError",
]


class ServingError(VlkdError):
    """Base class. The message is written for the client: it names the field and the limit, never a path or a library.

    Args:
        message: what was expected, what came, what to do.
        param: the field of the request at fault, or None.
    """

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadRequestError(ServingError):
    """The request cannot be read at all: no body, invalid JSON, an empty question."""

    status = 400
    code = "bad_request"


class UnauthorizedError(ServingError):
    """No API key came, or one that the server does not know."""

    status = 401
    code = "unauthorized"


class ForbiddenError(ServingError):
    """The key is known, but its scopes do not cover this."""

    status = 403
    code = "forbidden"


class NotFoundError(ServingError):
    """No such thing under this address."""

    status = 404
    code = "not_found"


class TooLargeError(ServingError):
    """More bytes, pixels or items than the server takes."""

    status = 413
    code = "too_large"


class UnsupportedMediaError(ServingError):
    """A content type or picture format that the server does not read."""

    status = 415
    code = "unsupported_media"


class UnprocessableError(ServingError):
    """A field is missing, unknown, of the wrong type or out of range; a picture cannot be decoded."""

    status = 422
    code = "invalid_input"


class OverloadedError(ServingError):
    """The server has as much work as it may hold."""

    status = 429
    code = "overloaded"
    retry_after_s = 1


class RateLimitedError(ServingError):
    """This asker sends too many requests.

    Args:
        message: for the client.
        retry_after_s: until there is room again.
    """

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ServingError):
    """The server is loading, shutting down, or lacks a part that this request needs."""

    status = 503
    code = "unavailable"
    retry_after_s = 2


class DeadlineError(ServingError):
    """The answer was not ready in time."""

    status = 504
    code = "deadline_exceeded"
