"""``vlkd serve``: the HTTP server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    model: Annotated[Path, typer.Option("--model", help="A bundle that `vlkd export` wrote.")],
    index: Annotated[Path | None, typer.Option("--index", help="An index that `vlkd index build` wrote.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0 takes a free one.")] = 8000,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one inference.")] = None,
) -> None:
    """Answer searches, captions, questions and embeddings over HTTP, without torch."""
    from vlkd_serving.engine import Engine
    from vlkd_serving.index import LiveIndex
    from vlkd_serving.loading import load_model
    from vlkd_serving.server import run_server
    from vlkd_serving.settings import ServerSettings

    loaded = load_model(model, threads)
    live = LiveIndex(index, loaded.fingerprint) if index is not None else None
    if live is not None and live.degraded:
        typer.secho(f"warning: {live.degraded}", fg=typer.colors.YELLOW, err=True)
    settings = ServerSettings(host=host, port=port, model_name=loaded.name)
    run_server(settings, Engine(loaded.student, settings, live))
