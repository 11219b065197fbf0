"""What several routes need: the engine of the application, the picture of a payload, checked options."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from vlkd_serving.engine import Engine, GenerationOptions, Picture
from vlkd_serving.errors import UnprocessableError
from vlkd_serving.schemas import ErrorResponse
from vlkd_serving.settings import ServerSettings

__all__ = ["ERRORS", "generation_options", "get_engine", "picture_of"]

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body or a text is empty or malformed."},
    413: {"model": ErrorResponse, "description": "Too many bytes, pixels or items."},
    415: {"model": ErrorResponse, "description": "A content type or picture format that is not accepted."},
    422: {"model": ErrorResponse, "description": "A wrong field, or a picture that cannot be decoded."},
    429: {"model": ErrorResponse, "description": "Busy: retry after the seconds in Retry-After."},
    503: {"model": ErrorResponse, "description": "Loading, shutting down, or without an index."},
    504: {"model": ErrorResponse, "description": "Not ready in time."},
}


def get_engine(request: Request) -> Engine:
    """The application's engine."""
    engine: Engine = request.app.state.engine
    return engine


def picture_of(upload: bytes | None, text: str | None) -> Picture:
    """The picture of a request: the uploaded file, or the base64 text.

    Raises:
        UnprocessableError: neither, or an empty text.
    """
    if upload is not None:
        return upload
    if not text:
        raise UnprocessableError("The picture is empty: 0 bytes.", "image")
    return text


def generation_options(
    num_beams: int | None, max_new_tokens: int | None, settings: ServerSettings
) -> GenerationOptions:
    """Check the generation options of a request.

    Raises:
        UnprocessableError: more than the server allows.
    """
    limits = {"num_beams": (num_beams, settings.max_beams), "max_new_tokens": (max_new_tokens, settings.max_new_tokens)}
    for name, (value, limit) in limits.items():
        if value is not None and value > limit:
            raise UnprocessableError(f"'{name}' must be at most {limit}, got {value}.", name)
    return num_beams, max_new_tokens
