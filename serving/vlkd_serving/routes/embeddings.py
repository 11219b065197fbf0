"""``POST /v1/embeddings``: the OpenAI shape, for texts and pictures; a picture may also be the body itself."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.protocol import EncodedPicture, EncodedText
from vlkd_serving.responses import encode_vector, json_response
from vlkd_serving.routes.common import ERRORS, checked_inputs, embed_inputs, get_engine, require_width
from vlkd_serving.schemas.openai import EmbeddingsRequest, EmbeddingsResponse

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingsResponse,
    responses=ERRORS,
    openapi_extra=body_schema(EmbeddingsRequest, multipart=False, raw=True),
)
async def embeddings(request: Request) -> Response:
    """Embed texts and pictures into one space; a picture is an input that starts with `data:`, or the body itself."""
    engine = get_engine(request)
    payload = await read_payload(request, EmbeddingsRequest, multipart=False, raw="input")
    fields = payload.fields
    name = engine.models.check_name(fields.model)
    encoded: Sequence[EncodedPicture | EncodedText]
    if payload.upload is not None:
        encoded = await engine.embed_pictures([payload.upload], "input", name)
    else:
        inputs = checked_inputs(fields.input, "input", engine.settings)
        encoded = await embed_inputs(engine, inputs, "input", name)
    require_width(fields.dimensions, len(encoded[0].embedding))
    data = [
        {"object": "embedding", "index": i, "embedding": encode_vector(each.embedding, fields.encoding_format)}
        for i, each in enumerate(encoded)
    ]
    tokens = sum(each.tokens for each in encoded if isinstance(each, EncodedText))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})
