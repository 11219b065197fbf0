"""``vlkd scale``: the server on Ray Serve, and bulk embedding on Ray Data."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(name="scale", help="Serve and embed on several machines.", no_args_is_help=True)

Address = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to join, or auto; by default one is started here.")
]


@app.command()
def serve(
    model: Annotated[Path, typer.Option("--model", help="A bundle, at the same path on every machine.")],
    shard: Annotated[
        list[Path] | None,
        typer.Option("--shard", help="An index folder, for example of `vlkd index split`; repeatable."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port.")] = 8000,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads, and processors, of a model replica.")] = 1,
    encoders: Annotated[str, typer.Option("--encoders", help="Replicas: 2, or 1:8 by load.")] = "1",
    decoders: Annotated[str, typer.Option("--decoders", help="Replicas: 2, or 1:8 by load.")] = "1",
    searchers: Annotated[str, typer.Option("--searchers", help="Replicas of each shard: 2, or 1:8 by load.")] = "1",
    ingresses: Annotated[str, typer.Option("--ingresses", help="Replicas: 2, or 1:8 by load.")] = "1",
    keys: Annotated[Path | None, typer.Option("--keys", help="API keys, made by `vlkd keys add`.")] = None,
    max_inflight: Annotated[int, typer.Option("--max-inflight", min=1, help="Most items an ingress admits.")] = 64,
    match_words: Annotated[
        bool, typer.Option("--match-words", help="Answer /v1/match too, with a bundle exported with --match-words.")
    ] = False,
    address: Address = None,
) -> None:
    """Answer over HTTP as `vlkd serve` does, with each part of the engine in replicas of its own, until SIGTERM."""
    from vlkd_serving.scale.cluster import ray_cluster
    from vlkd_serving.scale.serving import serve_until
    from vlkd_serving.scale.settings import Replicas, ScaleSettings
    from vlkd_serving.settings import ServerSettings

    settings = ScaleSettings(
        model=str(model.absolute()),
        shards=tuple(str(each.absolute()) for each in shard or ()),
        threads=threads,
        encoders=Replicas.parse(encoders),
        decoders=Replicas.parse(decoders),
        searchers=Replicas.parse(searchers),
        ingresses=Replicas.parse(ingresses),
        match_words=match_words,
        server=ServerSettings(
            host=host,
            port=port,
            keys_file=str(keys.absolute()) if keys is not None else None,
            max_inflight=max_inflight,
        ),
    )
    stop = threading.Event()
    with ray_cluster(address, settings.cpus) as ray:
        for number in (signal.SIGTERM, signal.SIGINT):  # after Ray, whose own handler ends the process at once
            signal.signal(number, lambda *_: stop.set())
        told = f"Ready at http://{host}:{port}"
        serve_until(ray, settings, stop, lambda: typer.echo(told), alone=address is None)


@app.command()
def embed(
    out: Annotated[Path, typer.Argument(help="Folder of the parts; one of an earlier, broken run is continued.")],
    model: Annotated[Path, typer.Option("--model", help="A bundle, at the same path on every machine.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of pictures, with all its sub-folders.")
    ] = None,
    shards: Annotated[
        list[Path] | None, typer.Option("--shards", help="WebDataset tar file, a part each; repeatable.")
    ] = None,
    part_size: Annotated[int, typer.Option("--part-size", min=1, help="Pictures of a part, with --images.")] = 4096,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, each with the model.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads, and processors, of a worker.")] = 1,
    address: Address = None,
) -> None:
    """Embed pictures into parts that `vlkd index load --vectors OUT` takes; parts that are whole are not made again.

    Exit code 3: every part is there, but the pictures listed could not be read.
    """
    from vlkd_hub.errors import InvalidInputError
    from vlkd_serving.cli.index.options import SOME_SKIPPED, print_skipped, progress_bar
    from vlkd_serving.index.build import Skipped
    from vlkd_serving.scale.bulk import BulkSettings, embed_in_bulk, jobs_of_folder, jobs_of_shards
    from vlkd_serving.scale.cluster import ray_cluster

    if (images is None) == (not shards):
        raise InvalidInputError("Give one of --images FOLDER or --shards TAR.")
    jobs = jobs_of_folder(images, part_size) if images is not None else jobs_of_shards(shards or [])
    settings = BulkSettings(bundle=str(model.absolute()), out=str(out.absolute()), workers=workers, threads=threads)
    with ray_cluster(address, workers * threads) as ray, progress_bar("Parts", len(jobs)) as progress:
        report = embed_in_bulk(ray, settings, jobs, progress)
    typer.echo(f"{report.made} parts made, {report.kept} were whole: {report.rows} vectors.")
    if report.skipped:
        print_skipped([Skipped(item_id, reason) for item_id, reason in report.skipped])
        raise typer.Exit(SOME_SKIPPED)
