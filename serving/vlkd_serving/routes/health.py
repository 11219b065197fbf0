"""Liveness, readiness and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from vlkd_serving.errors import ServingError, UnavailableError
from vlkd_serving.routes.common import get_engine
from vlkd_serving.schemas.errors import ErrorResponse
from vlkd_serving.schemas.native import HealthResponse

__all__ = ["router"]

router = APIRouter(tags=["operations"])
_UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: {"model": ErrorResponse}}


@router.get("/healthz", responses=_UNAVAILABLE)
async def healthz(request: Request) -> HealthResponse:
    """Liveness: whether the process works at all. A failure means: restart it."""
    if not get_engine(request).alive:
        raise UnavailableError("A worker has stopped.")
    return HealthResponse(status="ok")


@router.get("/readyz", responses=_UNAVAILABLE)
async def readyz(request: Request) -> HealthResponse:
    """Readiness: a text and a picture are sent through the real batchers."""
    engine = get_engine(request)
    if engine.state != "ready":
        raise UnavailableError(f"The server is {engine.state}.")
    try:
        await engine.canary()
    except ServingError:
        raise UnavailableError("The model does not answer in time.") from None
    if engine.degraded is not None:
        return HealthResponse(
            status="degraded", detail="The newest index generation is damaged; an older one is served."
        )
    return HealthResponse(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    return Response(generate_latest(get_engine(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)
