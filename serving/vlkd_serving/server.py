"""Run the application on a socket until a signal asks it to stop."""

from __future__ import annotations

import signal
from types import FrameType

import uvicorn

from vlkd_serving.app import create_app
from vlkd_serving.engine import Engine
from vlkd_serving.logs import configure_logging
from vlkd_serving.settings import ServerSettings

__all__ = ["run_server"]


class _DrainingServer(uvicorn.Server):
    """Tells the engine of the signal at once, so that new work is turned away while the old ends."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._engine.begin_drain()
        super().handle_exit(sig, frame)


def run_server(settings: ServerSettings, engine: Engine) -> None:
    """Serve until SIGTERM or SIGINT, then drain for at most ``settings.drain_s`` and return.

    Raises:
        SystemExit: with a code that is not 0, when the engine or the port fails at the start; the log says why.
    """
    configure_logging(settings.log_format)
    config = uvicorn.Config(
        create_app(settings, engine),
        host=settings.host,
        port=settings.port,
        log_level="info",
        log_config=None if settings.log_format == "json" else uvicorn.config.LOGGING_CONFIG,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    # uvicorn raises the signal again after a graceful stop; without these handlers that would end in a non-zero exit.
    before = {sig: signal.signal(sig, _ignore) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        _DrainingServer(config, engine).run()
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


def _ignore(sig: int, frame: FrameType | None) -> None:
    """The server has stopped already: there is nothing left to do."""
