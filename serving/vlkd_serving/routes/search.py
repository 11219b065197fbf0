"""``POST /v1/search``: find pictures by text or by picture."""

from __future__ import annotations

import time
from urllib.parse import quote

from fastapi import APIRouter, Request

from vlkd_serving.errors import UnprocessableError
from vlkd_serving.index import Hit
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.routes.common import ERRORS, get_engine, picture_of
from vlkd_serving.schemas.native import SearchRequest, SearchResponse, SearchResult
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(tags=["native"])


@router.post("/v1/search", responses=ERRORS, openapi_extra=body_schema(SearchRequest))
async def search(request: Request) -> SearchResponse:
    """Find the indexed pictures that fit a text, or that look like a picture. Give `text` or `image`, not both."""
    begin = time.perf_counter()
    engine = get_engine(request)
    payload = await read_payload(request, SearchRequest)
    fields, has_image = payload.fields, payload.upload is not None or payload.fields.image is not None
    if (fields.text is not None) == has_image:
        raise UnprocessableError("Give either 'text' or 'image'.", "text")
    if fields.k > engine.settings.max_k:
        raise UnprocessableError(f"'k' must be at most {engine.settings.max_k}, got {fields.k}.", "k")
    if fields.text is not None:
        text = require_text(fields.text, "text", engine.settings.max_text_chars)
        generation, hits = await engine.search_text(text, fields.k)
    else:
        generation, hits = await engine.search_picture(picture_of(payload.upload, fields.image), fields.k)
    return SearchResponse(
        results=[_result(hit) for hit in hits],
        generation=generation,
        latency_ms=round((time.perf_counter() - begin) * 1000, 3),
    )


def _result(hit: Hit) -> SearchResult:
    item = hit.item
    url = f"/v1/images/{quote(item.id)}" if item.path is not None else None
    return SearchResult(id=item.id, score=round(hit.score, 6), image_url=url, metadata=item.metadata)
