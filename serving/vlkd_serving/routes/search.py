"""``POST /v1/search``: find pictures by text or by picture."""

from __future__ import annotations

import time
from urllib.parse import quote

from fastapi import APIRouter, Request

from vlkd_serving.errors import UnprocessableError
from vlkd_serving.index import Hit, WhereError
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.questions import SearchQuestion
from vlkd_serving.routes.common import ERRORS, get_engine, picture_of
from vlkd_serving.schemas.native import SearchRequest, SearchResponse, SearchResult
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(tags=["native"])


@router.post("/v1/search", responses=ERRORS, openapi_extra=body_schema(SearchRequest))
async def search(request: Request) -> SearchResponse:
    """Find the indexed pictures that fit a text, look like a picture, or both. A filter and pages narrow them."""
    begin = time.perf_counter()
    engine = get_engine(request)
    payload = await read_payload(request, SearchRequest)
    fields, has_image = payload.fields, payload.upload is not None or payload.fields.image is not None
    if fields.text is None and not has_image:
        raise UnprocessableError("Give 'text' or 'image', or both.", "text")
    if fields.k + fields.offset > engine.settings.max_k:
        name = "offset" if fields.offset else "k"
        got = f"{fields.k} and {fields.offset}" if fields.offset else str(fields.k)
        raise UnprocessableError(f"'k' and 'offset' together must be at most {engine.settings.max_k}, got {got}.", name)
    if fields.weights is not None and not (fields.text is not None and has_image):
        raise UnprocessableError("'weights' needs both 'text' and 'image'.", "weights")
    limit = engine.settings.max_text_chars
    question = SearchQuestion(
        texts=[] if fields.text is None else [require_text(fields.text, "text", limit)],
        pictures=[picture_of(payload.upload, fields.image)] if has_image else [],
        k=fields.k,
        offset=fields.offset,
        where=fields.where,
        weights=fields.weights,
    )
    try:
        generation, hits = await engine.search(question)
    except WhereError as error:
        raise UnprocessableError(str(error), "where") from None
    return SearchResponse(
        results=[_result(hit) for hit in hits],
        generation=generation,
        latency_ms=round((time.perf_counter() - begin) * 1000, 3),
    )


def _result(hit: Hit) -> SearchResult:
    item = hit.item
    url = f"/v1/images/{quote(item.id)}" if item.path is not None else None
    return SearchResult(id=item.id, score=round(hit.score, 6), image_url=url, metadata=item.metadata)
