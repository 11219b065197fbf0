"""``POST /v1/vqa``: answer a question about a picture."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, generation_options, get_engine, picture_of
from vlkd_serving.schemas.native import VqaRequest, VqaResponse
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(tags=["native"])


@router.post("/v1/vqa", response_model=VqaResponse, responses=ERRORS, openapi_extra=body_schema(VqaRequest))
async def vqa(request: Request) -> Response:
    """Answer one question about one picture in a word or two."""
    begin = time.perf_counter()
    engine = get_engine(request)
    payload = await read_payload(request, VqaRequest)
    fields = payload.fields
    question = require_text(fields.question, "question", engine.settings.max_text_chars)
    options = generation_options(fields.num_beams, fields.max_new_tokens, engine.settings)
    name = engine.models.check_name(fields.model)
    text = await engine.write("vqa", picture_of(payload.upload, fields.image), question, options, name)
    latency_ms = round((time.perf_counter() - begin) * 1000, 3)
    return json_response(VqaResponse(answer=text.text, score=text.score, model=name, latency_ms=latency_ms))
