"""``GET /v1/models``: the models of this server, in the OpenAI shape."""

from __future__ import annotations

from fastapi import APIRouter, Request

from vlkd_serving.routes.common import get_engine
from vlkd_serving.schemas.errors import ErrorResponse
from vlkd_serving.schemas.openai import ModelCard, ModelList

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models")
async def models(request: Request) -> ModelList:
    """Every model, the default first."""
    started = request.app.state.started
    return ModelList(data=[ModelCard(id=name, created=started) for name in get_engine(request).models.names])


@router.get("/v1/models/{model}", responses={404: {"model": ErrorResponse}})
async def model(request: Request, model: str) -> ModelCard:
    """One model."""
    return ModelCard(id=get_engine(request).models.check_name(model), created=request.app.state.started)
