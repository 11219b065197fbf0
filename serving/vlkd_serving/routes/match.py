"""``POST /v1/match``: where in a picture each word of a text is."""

from __future__ import annotations

import time

import numpy as np
from fastapi import APIRouter, Request, Response

from vlkd_hub.runtime import matching
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.protocol import Floats
from vlkd_serving.responses import json_response
from vlkd_serving.routes.common import ERRORS, get_engine, picture_of
from vlkd_serving.schemas.errors import ErrorResponse
from vlkd_serving.schemas.native import MatchedWord, MatchRequest, MatchResponse, Patch
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(tags=["native"])
DECIMALS = 4
"""Of scores and attention: a text of 60 words and a picture of 14 x 14 patches are 20,000 numbers."""


@router.post(
    "/v1/match",
    response_model=MatchResponse,
    responses={**ERRORS, 404: {"model": ErrorResponse, "description": "No such model, or it does not match words."}},
    openapi_extra=body_schema(MatchRequest),
)
async def match(request: Request) -> Response:
    """Compare every word of a text with every patch of a picture; only for models that were exported for it."""
    begin = time.perf_counter()
    engine = get_engine(request)
    payload = await read_payload(request, MatchRequest)
    fields = payload.fields
    text = require_text(fields.text, "text", engine.settings.max_text_chars)
    name = engine.models.check_name(fields.model)
    found = await engine.match(picture_of(payload.upload, fields.image), text, name)
    answer = MatchResponse(
        words=[_word(each) for each in found.words],
        rows=found.rows,
        columns=found.columns,
        region=[round(edge, DECIMALS) for edge in found.region],
        model=name,
        latency_ms=round((time.perf_counter() - begin) * 1000, 3),
    )
    return json_response(answer)


def _word(word: matching.MatchedWord) -> MatchedWord:
    scores = _rounded(word.scores)
    return MatchedWord(
        text=word.text,
        start=word.start,
        end=word.end,
        scores=scores,
        top=[Patch(row=row, column=column, score=scores[row][column]) for row, column in word.top],
        attention=None if word.attention is None else _rounded(word.attention),
    )


def _rounded(values: Floats) -> list[list[float]]:
    numbers: list[list[float]] = np.round(values.astype(np.float64), DECIMALS).tolist()
    return numbers
