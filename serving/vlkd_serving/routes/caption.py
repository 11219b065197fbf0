"""``POST /v1/caption``: describe a picture."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request

from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.routes.common import ERRORS, generation_options, get_engine, picture_of
from vlkd_serving.schemas import CaptionRequest, CaptionResponse

__all__ = ["router"]

router = APIRouter(tags=["generate"])


@router.post("/v1/caption", responses=ERRORS, openapi_extra=body_schema(CaptionRequest))
async def caption(request: Request) -> CaptionResponse:
    """Describe one picture in a sentence."""
    begin = time.perf_counter()
    engine = get_engine(request)
    payload = await read_payload(request, CaptionRequest)
    fields = payload.fields
    options = generation_options(fields.num_beams, fields.max_new_tokens, engine.settings)
    text = await engine.caption(picture_of(payload.upload, fields.image), options)
    latency_ms = round((time.perf_counter() - begin) * 1000, 3)
    return CaptionResponse(caption=text, model=engine.settings.model_name, latency_ms=latency_ms)
