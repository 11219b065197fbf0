"""``GET /v1/images/{id}``: the picture of an indexed item, and of nothing else."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from vlkd_serving.errors import NotFoundError
from vlkd_serving.routes.common import get_engine
from vlkd_serving.schemas.errors import ErrorResponse

__all__ = ["router"]

router = APIRouter(tags=["native"])
_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@router.get(
    "/v1/images/{item_id:path}",
    response_class=FileResponse,
    responses={200: {"content": {"image/*": {}}}, 404: {"model": ErrorResponse}},
)
async def image(request: Request, item_id: str) -> FileResponse:
    """The picture of a search result. The id is looked up in the index; it is never read as a path."""
    path = await get_engine(request).picture_path(item_id)
    media_type = _TYPES.get(path.suffix.lower()) if path is not None else None
    if path is None or media_type is None:
        raise NotFoundError("The index has no picture with this id.", "id")
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})
