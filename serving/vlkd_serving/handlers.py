"""Every error leaves the server through one function, in one shape."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.errors import ServingError, UnprocessableError
from vlkd_serving.schemas.errors import ErrorBody, ErrorResponse

__all__ = ["add_handlers", "error_response"]

logger = logging.getLogger("vlkd.serving")

_PLAIN = {
    404: ("not_found", "There is nothing at this address; see /docs."),
    405: ("method_not_allowed", "This address does not take that method; see /docs."),
}


def add_handlers(app: FastAPI) -> None:
    """Route the exceptions that the application knows to :func:`error_response`.

    Any other goes there as well, by way of :class:`vlkd_serving.middleware.RequestMiddleware`.
    """
    for kind in (ServingError, InvalidInputError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    return error_response(error, getattr(request.state, "request_id", ""))


def error_response(error: Exception, request_id: str) -> JSONResponse:
    """The answer to a failed request. Only messages written for clients pass; any other error is logged, not shown."""
    headers = {}
    if isinstance(error, InvalidInputError):
        error = UnprocessableError(str(error))
    if isinstance(error, ServingError):
        status, code, message, param = error.status, error.code, error.message, error.param
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, RequestValidationError):
        status, code, message, param = 422, UnprocessableError.code, "A parameter of the address is wrong.", None
    elif isinstance(error, HTTPException):
        status, param = error.status_code, None
        code, message = _PLAIN.get(status, ("bad_request", "The request cannot be served."))
        headers.update(error.headers or {})
    else:
        logger.error("request %s failed", request_id, exc_info=error)
        status, code, param = 500, "internal_error", None
        message = "The server failed on this request; its log has the details under the request id."
    body = ErrorResponse(error=ErrorBody(code=code, message=message, param=param, request_id=request_id))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)
