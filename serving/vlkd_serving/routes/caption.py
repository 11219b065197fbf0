"""``POST /v1/caption``: describe a picture."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, generation_options, get_engine, picture_of
from vlkd_serving.schemas.native import CaptionRequest, CaptionResponse

__all__ = ["router"]

router = APIRouter(tags=["native"])


@router.post(
    "/v1/caption",
    response_model=CaptionResponse,
    responses=ERRORS,
    openapi_extra=body_schema(CaptionRequest, raw=True),
)
async def caption(request: Request) -> Response:
    """Describe one picture in a sentence."""
    begin = time.perf_counter()
    engine = get_engine(request)
    payload = await read_payload(request, CaptionRequest, raw="image")
    fields = payload.fields
    options = generation_options(fields.num_beams, fields.max_new_tokens, engine.settings)
    name = engine.models.check_name(fields.model)
    text = await engine.write("caption", picture_of(payload.upload, fields.image), None, options, name)
    latency_ms = round((time.perf_counter() - begin) * 1000, 3)
    return json_response(CaptionResponse(caption=text.text, score=text.score, model=name, latency_ms=latency_ms))
