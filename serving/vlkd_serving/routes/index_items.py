"""``/v1/index/items``: add, replace and remove items of the index while it is searched. Needs the scope ``write``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.errors import UnprocessableError
from vlkd_serving.index import Item
from vlkd_serving.payload import body_schema, read_payload
from vlkd_serving.routes.common import ERRORS, get_engine
from vlkd_serving.schemas.native import ChangeResponse, PutItemRequest
from vlkd_serving.texts import require_text

__all__ = ["router"]

router = APIRouter(prefix="/v1/index", tags=["index"])
ItemId = Annotated[str, Path(description="The item's id: any text, a slash included.")]


@router.put("/items/{item_id:path}", responses=ERRORS, openapi_extra=body_schema(PutItemRequest, multipart=False))
async def put_item(request: Request, item_id: ItemId) -> ChangeResponse:
    """Add an item, or replace the one of this id. The answer comes when the change is safe on disk."""
    engine = get_engine(request)
    engine.require_writer()
    fields = (await read_payload(request, PutItemRequest, multipart=False)).fields
    if (fields.text is None) == (fields.image is None):
        raise UnprocessableError("Give either 'image' or 'text'.", "image")
    if fields.text is not None:
        require_text(fields.text, "text", engine.settings.max_text_chars)
    try:
        item = Item(id=item_id, metadata=fields.metadata)
        sequence = await engine.put_item(item, fields.image, fields.text)
    except InvalidInputError as error:
        raise UnprocessableError(str(error), "id") from None
    return ChangeResponse(id=item_id, sequence=sequence)


@router.delete("/items/{item_id:path}", responses=ERRORS)
async def remove_item(request: Request, item_id: ItemId) -> ChangeResponse:
    """Remove an item. The answer comes when the change is safe on disk."""
    sequence = await get_engine(request).remove_item(item_id)
    return ChangeResponse(id=item_id, sequence=sequence)
