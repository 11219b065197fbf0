"""What several routes need: the engine of the application, the picture of a payload, checked options."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request

from vlkd_serving.engine import Engine
from vlkd_serving.errors import BadRequestError, TooLargeError, UnprocessableError
from vlkd_serving.pre import Picture
from vlkd_serving.protocol import EncodedPicture, EncodedText
from vlkd_serving.questions import GenerationOptions
from vlkd_serving.schemas.errors import ErrorResponse
from vlkd_serving.served_model import gather_all
from vlkd_serving.settings import ServerSettings
from vlkd_serving.texts import require_text

__all__ = [
    "ERRORS",
    "checked_inputs",
    "embed_inputs",
    "generation_options",
    "get_engine",
    "picture_of",
    "require_width",
]

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body or a text is empty or malformed."},
    401: {"model": ErrorResponse, "description": "No API key, or one that this server does not know."},
    403: {"model": ErrorResponse, "description": "The key's scope does not cover this route."},
    404: {"model": ErrorResponse, "description": "There is no model of this name."},
    413: {"model": ErrorResponse, "description": "Too many bytes, pixels or items."},
    415: {"model": ErrorResponse, "description": "A content type or picture format that is not accepted."},
    422: {"model": ErrorResponse, "description": "A wrong field, or a picture that cannot be decoded."},
    429: {"model": ErrorResponse, "description": "Busy, or too many requests: retry after the seconds in Retry-After."},
    503: {"model": ErrorResponse, "description": "Loading, shutting down, or without an index."},
    504: {"model": ErrorResponse, "description": "Not ready in time."},
}
_URL = re.compile(r"(https?|ftp|file)://\S+", re.IGNORECASE)


def get_engine(request: Request) -> Engine:
    """The application's engine."""
    engine: Engine = request.app.state.engine
    return engine


def picture_of(upload: bytes | None, text: str | None, param: str = "image") -> Picture:
    """The picture of a request: the uploaded file, or the base64 text.

    Raises:
        UnprocessableError: neither, or an empty text.
    """
    if upload is not None:
        return upload
    if not text:
        raise UnprocessableError("The picture is empty: 0 bytes.", param)
    return text


def generation_options(
    num_beams: int | None, max_new_tokens: int | None, settings: ServerSettings, param: str = "max_new_tokens"
) -> GenerationOptions:
    """Check the generation options of a request.

    Raises:
        UnprocessableError: more than the server allows.
    """
    limits = {"num_beams": (num_beams, settings.max_beams), param: (max_new_tokens, settings.max_new_tokens)}
    for name, (value, limit) in limits.items():
        if value is not None and value > limit:
            raise UnprocessableError(f"'{name}' must be at most {limit}, got {value}.", name)
    return num_beams, max_new_tokens


def checked_inputs(inputs: str | list[str], param: str, settings: ServerSettings) -> list[str]:
    """The inputs of an embedding request as a list, every text checked; pictures are those that start with ``data:``.

    Raises:
        BadRequestError: none, or an empty one.
        TooLargeError: too many.
        UnprocessableError: one that cannot be embedded.
    """
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not inputs:
        raise BadRequestError(f"'{param}' must hold at least one string.", param)
    if len(inputs) > settings.max_inputs:
        raise TooLargeError(f"'{param}' may hold at most {settings.max_inputs} items, got {len(inputs)}.", param)
    for value in inputs:
        if _is_picture(value):
            continue
        if _URL.fullmatch(value.strip()) and not settings.fetch_hosts:
            raise UnprocessableError("URLs are not fetched here: send the picture itself as a data URL.", param)
        require_text(value, param, settings.max_text_chars)
    return inputs


async def embed_inputs(
    engine: Engine, inputs: list[str], param: str, model: str | None
) -> list[EncodedPicture | EncodedText]:
    """Embed texts and pictures together, each in its own model part; the answers are in the order of the inputs."""
    pictures = [value for value in inputs if _is_picture(value)]
    texts = [value for value in inputs if not _is_picture(value)]
    if not texts:
        return list(await engine.embed_pictures(pictures, param, model))
    if not pictures:
        return list(await engine.embed_texts(texts, model))
    with engine.admission.admit(len(inputs)):
        of_pictures, of_texts = await gather_all(
            engine.embed_pictures(pictures, param, model), engine.embed_texts(texts, model)
        )
    from_pictures, from_texts = iter(of_pictures), iter(of_texts)
    return [next(from_pictures if _is_picture(value) else from_texts) for value in inputs]


def require_width(dimensions: int | None, width: int) -> None:
    """Raises :class:`UnprocessableError` for any other width than the model's own: cutting a vector would hurt it."""
    if dimensions is not None and dimensions != width:
        raise UnprocessableError(f"'dimensions' must be {width}, got {dimensions}.", "dimensions")


def _is_picture(value: str) -> bool:
    return value[:5].lower() == "data:" or bool(_URL.fullmatch(value.strip()))
