"""The HTTP application: an engine with routes around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from vlkd_hub._version import __version__
from vlkd_serving.engine import Engine
from vlkd_serving.handlers import add_handlers
from vlkd_serving.middleware import RequestMiddleware
from vlkd_serving.routes import ROUTERS
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

    app = FastAPI(title="vlkd", description=_DESCRIPTION, version=__version__, lifespan=lifespan)
    app.state.engine = engine
    app.state.settings = settings
    app.add_middleware(RequestMiddleware, metrics=engine.metrics, max_body_bytes=settings.max_body_bytes)
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
