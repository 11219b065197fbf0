"""The machine-learning API of Immich: ``/predict`` for its smart search, and ``/ping``."""

from __future__ import annotations

import json
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from vlkd_serving.engine import Engine
from vlkd_serving.errors import BadRequestError, UnprocessableError, UnsupportedMediaError
from vlkd_serving.images import picture_size
from vlkd_serving.payload import read_form
from vlkd_serving.protocol import Floats
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, get_engine
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(tags=["Immich"])
TASK = "clip"
KINDS = ("visual", "textual")
_FORM = {
    "type": "object",
    "required": ["entries"],
    "properties": {
        "entries": {
            "type": "string",
            "description": 'JSON: {"clip": {"visual": {"modelName": "any"}}} with image, or "textual" with text.',
        },
        "image": {"type": "string", "format": "binary"},
        "text": {"type": "string"},
    },
}


@router.get("/ping", response_class=PlainTextResponse)
async def ping() -> PlainTextResponse:
    """Says pong."""
    return PlainTextResponse("pong")


@router.post(
    "/predict",
    responses={**ERRORS, 200: {"description": "The embedding as a JSON list in a string, and the picture's size."}},
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def predict(request: Request) -> Response:
    """Embed a picture or a text. Immich names models of its own; a name unknown here means the default."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaError("The content type must be multipart/form-data.", "content-type")
    engine = get_engine(request)
    values, upload = await read_form(request)
    kind, model = _read_entries(values.get("entries"))
    name = model if model in engine.models.names else None
    if kind == "visual":
        if not upload:
            raise UnprocessableError("A visual entry needs the file 'image'.", "image")
        return await _visual(engine, upload, name)
    if values.get("text") is None:
        raise UnprocessableError("A textual entry needs the field 'text'.", "text")
    text = require_text(values["text"], "text", engine.settings.max_text_chars)
    (encoded,) = await engine.embed_texts([text], name)
    return json_response({TASK: _as_text(encoded.embedding)})


async def _visual(engine: Engine, upload: bytes, model: str | None) -> Response:
    (encoded,) = await engine.embed_pictures([upload], "image", model)
    width, height = picture_size(upload)
    return json_response({TASK: _as_text(encoded.embedding), "imageHeight": height, "imageWidth": width})


def _as_text(vector: Floats) -> str:
    """Immich stores an embedding as the text of a JSON list."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode("ascii")


def _read_entries(text: Any) -> tuple[str, str]:
    """Kind and model name of the one entry that this server can answer.

    Raises:
        BadRequestError: not JSON.
        UnprocessableError: another task, several entries, or none.
    """
    if not isinstance(text, str):
        raise UnprocessableError("'entries' is required.", "entries")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequestError("'entries' is not valid JSON.", "entries") from None
    wanted = entries.get(TASK) if isinstance(entries, dict) and len(entries) == 1 else None
    if not isinstance(wanted, dict) or len(wanted) != 1 or next(iter(wanted)) not in KINDS:
        raise UnprocessableError("'entries' must ask for clip, visual or textual, and nothing else.", "entries")
    kind, entry = next(iter(wanted.items()))
    model = entry.get("modelName") if isinstance(entry, dict) else None
    if not isinstance(model, str):
        raise UnprocessableError("'entries' must name a modelName.", "entries")
    return kind, model
