"""The HTTP application: an engine with routes around it."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, request_response

from vlkd_hub._version import __version__
from vlkd_serving.bodies import BodyLimits
from vlkd_serving.disconnect import DisconnectMiddleware
from vlkd_serving.engine import Engine
from vlkd_serving.handlers import add_handlers
from vlkd_serving.middleware import RequestMiddleware
from vlkd_serving.routes import ROUTERS
from vlkd_serving.security.access import AccessMiddleware
from vlkd_serving.security.key_file import KeyFile
from vlkd_serving.security.rate_limit import RateLimiter
from vlkd_serving.settings import ServerSettings

__all__ = ["create_app"]

_DESCRIPTION = "Search pictures by text or picture, describe them, ask about them, embed them. No torch inside."


def create_app(settings: ServerSettings, engine: Engine) -> FastAPI:
    """Build the application; the engine starts and stops with it.

    Args:
        settings: the server's limits.
        engine: not yet started.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    app = FastAPI(
        title="vlkd", description=_DESCRIPTION, version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.started = int(time.time())
    app.state.engine = engine
    app.state.settings = settings
    _add_middleware(app, settings, engine)
    add_handlers(app)
    # As routes of the application itself: an included router is searched in two passes for every request.
    routes = [route for router in ROUTERS for route in router.routes]
    app.router.routes.extend(routes)
    _call_directly(routes)
    if settings.keys_file is not None:
        _document_keys(app)
    return app


def _call_directly(routes: Sequence[BaseRoute]) -> None:
    """Spare a handler that reads its own request and writes its own answer what FastAPI does for the others.

    A route with dependencies is not among them: only FastAPI runs those.
    """
    for route in routes:
        if isinstance(route, APIRoute) and not route.dependencies:
            signature = inspect.signature(route.endpoint, eval_str=True)
            if list(signature.parameters) == ["request"] and signature.return_annotation is Response:
                route.app = request_response(route.endpoint)


def _document_keys(app: FastAPI) -> None:
    """Say in the OpenAPI document how a key is sent."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = [{"bearer": []}, {"key": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_middleware(app: FastAPI, settings: ServerSettings, engine: Engine) -> None:
    """From the inside out: who may come, browsers' preflights, ids and limits, clients that go away."""
    keys = KeyFile(settings.keys_file) if settings.keys_file is not None else None
    limiter = RateLimiter(settings.rate_per_s, settings.rate_burst)
    app.add_middleware(AccessMiddleware, engine=engine, keys=keys, limiter=limiter)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Priority", "X-Request-Id", "X-Timeout-Ms"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    app.add_middleware(DisconnectMiddleware)
    bodies = BodyLimits(settings.max_body_bytes, settings.max_bodies_bytes, settings.deadline_s, engine.metrics)
    app.add_middleware(RequestMiddleware, metrics=engine.metrics, bodies=bodies)
