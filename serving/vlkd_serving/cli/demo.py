"""``vlkd demo``: the page in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlkd_hub.errors import InvalidInputError

if TYPE_CHECKING:
    from vlkd_serving.demo.backend import DemoBackend

__all__ = ["demo"]

EXAMPLES = 8


def demo(
    model: Annotated[Path | None, typer.Option("--model", help="A bundle to run in this process.")] = None,
    index: Annotated[Path | None, typer.Option("--index", help="Its index, for the Search tab.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="A running `vlkd serve` to ask instead.")] = None,
    examples: Annotated[Path | None, typer.Option("--examples", help="Folder of PNG pictures to start with.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0 takes a free one.")] = 7860,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one inference.")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")] = False,
) -> None:
    """Open a page to search, caption, ask and find words in pictures, over a bundle (--model) or a server (--url)."""
    if (model is None) == (url is None):
        raise InvalidInputError("Give either --model BUNDLE (with --index DIR to search) or --url of a running server.")
    if url is not None and index is not None:
        raise InvalidInputError("--index belongs to --model; a server at --url has its own index.")
    if examples is not None and not examples.is_dir():
        raise InvalidInputError(f"{examples} is not a folder.")
    from vlkd_serving.demo.backend import example_pictures
    from vlkd_serving.demo.page import build_page, launch_page

    backend = _backend(model, index, url, threads)
    page = build_page(backend, example_pictures(backend, examples, EXAMPLES))
    try:
        address = launch_page(page, host, port, block=False, open_browser=open_browser)
    except OSError as error:
        raise InvalidInputError(f"Port {port} on {host} cannot be used. Choose another with --port.") from error
    typer.echo(f"The demo is at {address} (stop it with Ctrl+C)")
    page.block_thread()


def _backend(model: Path | None, index: Path | None, url: str | None, threads: int | None) -> DemoBackend:
    from vlkd_serving.demo.backend import HttpBackend, LocalBackend
    from vlkd_serving.index import LiveIndex
    from vlkd_serving.loading import load_model

    if model is None:
        return HttpBackend(str(url))
    loaded = load_model(model, threads, match_words=True)
    return LocalBackend(loaded.student, LiveIndex(index, loaded.fingerprint) if index is not None else None)
