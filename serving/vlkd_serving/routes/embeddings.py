"""``POST /v1/embeddings``: the OpenAI shape, for texts and (as data URLs) pictures."""

from __future__ import annotations

import asyncio
import base64
import re

import numpy as np
from fastapi import APIRouter, Request

from vlkd_serving.engine import Embedding, Engine
from vlkd_serving.errors import BadRequestError, TooLargeError, UnprocessableError
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.routes.common import ERRORS, get_engine
from vlkd_serving.schemas import EmbeddingItem, EmbeddingsRequest, EmbeddingsResponse, Usage
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(tags=["embeddings"])
_URL = re.compile(r"(https?|ftp|file)://\S+", re.IGNORECASE)


@router.post("/v1/embeddings", responses=ERRORS, openapi_extra=body_schema(EmbeddingsRequest, multipart=False))
async def embeddings(request: Request) -> EmbeddingsResponse:
    """Embed texts and pictures into one space; a picture is an input that starts with `data:`."""
    engine = get_engine(request)
    fields = (await read_payload(request, EmbeddingsRequest, multipart=False)).fields
    inputs = [fields.input] if isinstance(fields.input, str) else fields.input
    vectors = await _embed(engine, _checked(inputs, engine))
    if fields.dimensions is not None and fields.dimensions != len(vectors[0]):
        raise UnprocessableError(f"'dimensions' must be {len(vectors[0])}, got {fields.dimensions}.", "dimensions")
    data = [EmbeddingItem(index=i, embedding=_encode(v, fields.encoding_format)) for i, v in enumerate(vectors)]
    return EmbeddingsResponse(data=data, model=engine.settings.model_name, usage=Usage())


def _checked(inputs: list[str], engine: Engine) -> list[str]:
    if not inputs:
        raise BadRequestError("'input' must hold at least one string.", "input")
    if len(inputs) > engine.settings.max_inputs:
        raise TooLargeError(f"'input' may hold at most {engine.settings.max_inputs} items, got {len(inputs)}.", "input")
    for value in inputs:
        if _is_picture(value):
            continue
        require_text(value, "input", engine.settings.max_text_chars)
        if _URL.fullmatch(value.strip()):
            raise UnprocessableError("URLs are not fetched here: send the picture itself as a data URL.", "input")
    return inputs


def _is_picture(value: str) -> bool:
    return value[:5].lower() == "data:"


async def _embed(engine: Engine, inputs: list[str]) -> list[Embedding]:
    """Texts and pictures go to their own model parts together; the answers come back in the order of the inputs."""
    pictures = [value for value in inputs if _is_picture(value)]
    texts = [value for value in inputs if not _is_picture(value)]
    of_pictures, of_texts = await asyncio.gather(engine.embed_pictures(pictures, "input"), engine.embed_texts(texts))
    from_pictures, from_texts = iter(of_pictures), iter(of_texts)
    return [next(from_pictures if _is_picture(value) else from_texts) for value in inputs]


def _encode(vector: Embedding, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
    return [float(value) for value in vector]
