"""``vlkd serve``: the HTTP server."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vlkd_serving.index import LiveIndex

__all__ = ["serve"]


def serve(
    model: Annotated[
        list[str],
        typer.Option("--model", help="A bundle that `vlkd export` wrote; several as name=PATH, the first by default."),
    ],
    index: Annotated[Path | None, typer.Option("--index", help="An index that `vlkd index build` wrote.")] = None,
    teacher_index: Annotated[
        bool, typer.Option("--teacher-index", help="Allow an index of a space declared compatible with the model's.")
    ] = False,
    index_in_memory: Annotated[
        bool,
        typer.Option(
            "--index-in-memory", help="Read the index's vectors instead of mapping them: faster, more memory."
        ),
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0 takes a free one.")] = 8000,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one inference.")] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Where the graphs run: cpu, cuda, openvino ...; measured: as `vlkd export` found fastest."),
    ] = None,
    match_words: Annotated[
        bool, typer.Option("--match-words", help="Answer /v1/match too, with bundles exported with --match-words.")
    ] = False,
    keys: Annotated[Path | None, typer.Option("--keys", help="API keys, made by `vlkd keys add`.")] = None,
    cors: Annotated[list[str] | None, typer.Option("--cors", help="Origin whose pages may call; repeatable.")] = None,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Requests a second for each key; 0: no limit.")] = 0.0,
    fetch: Annotated[
        list[str] | None, typer.Option("--fetch", help="Host from which pictures may be fetched; repeatable.")
    ] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let keys of the scope `write` change the index; needs --keys.")
    ] = False,
    idle_unload: Annotated[
        float, typer.Option("--idle-unload", min=0, help="Unload a model after so many idle seconds; 0: never.")
    ] = 0.0,
    max_inflight: Annotated[int, typer.Option("--max-inflight", min=1, help="Most items admitted at once.")] = 64,
    picture_cache_mb: Annotated[
        int, typer.Option("--picture-cache-mb", min=0, help="Memory for encodings of the pictures seen last.")
    ] = 64,
    log_json: Annotated[bool, typer.Option("--log-json", help="One JSON object a line.")] = False,
    tracing: Annotated[bool, typer.Option("--tracing", help="Send OpenTelemetry spans to the OTLP address.")] = False,
) -> None:
    """Answer searches, captions, questions and embeddings over HTTP, without torch."""
    from vlkd_hub.errors import InvalidInputError
    from vlkd_serving.engine import Engine
    from vlkd_serving.index import LiveWriter
    from vlkd_serving.index.live_writer import CompactionPolicy
    from vlkd_serving.loading import MATCHING, SERVED, model_source, named_bundles, require_matching
    from vlkd_serving.server import run_server
    from vlkd_serving.settings import ServerSettings
    from vlkd_serving.tracing import enable_tracing

    settings = ServerSettings(
        host=host,
        port=port,
        keys_file=str(keys) if keys is not None else None,
        cors_origins=tuple(cors or ()),
        rate_per_s=rate,
        fetch_hosts=tuple(fetch or ()),
        idle_unload_s=idle_unload,
        max_inflight=max_inflight,
        picture_cache_bytes=picture_cache_mb << 20,
        log_format="json" if log_json else "text",
    )
    bundles = named_bundles(model)
    if match_words:
        require_matching(bundles.values())
    graphs = (*SERVED, *MATCHING) if match_words else SERVED
    sources = [
        model_source(name, path, threads, provider=provider, at_once=number == 0, graphs=graphs)
        for number, (name, path) in enumerate(bundles.items())
    ]
    fingerprint, bundle = str(sources[0].fingerprint), next(iter(bundles.values()))
    live = _open_index(index, fingerprint, bundle, teacher_index, index_in_memory) if index is not None else None
    if writable and (live is None or keys is None):
        raise InvalidInputError("--writable needs --index and --keys: nobody may change an index without a key.")
    if writable and live is not None and live.current.manifest.fingerprint != fingerprint:
        raise InvalidInputError(
            "--writable: the index holds vectors of another model, and --teacher-index is only for searching it. Serve "
            "the model that it was built with, or bring it to this one with `vlkd index migrate`."
        )
    with ExitStack() as stack:
        if tracing:
            stack.callback(enable_tracing().shutdown)
        writer = None
        if writable and live is not None:
            writer = stack.enter_context(LiveWriter(live, CompactionPolicy()))
        run_server(settings, Engine(sources, settings, live, writer=writer))


def _open_index(directory: Path, fingerprint: str, bundle: Path, teacher_index: bool, in_memory: bool) -> LiveIndex:
    """The index, if the default model may query it; warns where it is not in its newest state."""
    from vlkd_hub.bundle import read_manifest
    from vlkd_serving.index import LiveIndex, QuerySpace

    teacher = str(read_manifest(bundle, verify=False).lineage.get("teacher", ""))
    live = LiveIndex(directory, QuerySpace(fingerprint, teacher, teacher_index), in_memory=in_memory)
    if live.degraded:
        typer.secho(f"warning: {live.degraded}", fg=typer.colors.YELLOW, err=True)
    return live
