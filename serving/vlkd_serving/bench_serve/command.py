"""``vlkd bench serve``: throughput, added latency, start and memory, beside the same work without a server."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from vlkd_hub.reports import write_report

__all__ = ["serve"]

BUSY = 1.0
"""Load average from which a warning is printed."""


def serve(
    bundle: Annotated[Path, typer.Argument(help="An export.", metavar="BUNDLE")],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="Another server, as NAME=URL; `infinity` is asked in its own way. Repeatable."),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=8, help="Different JPEGs, 500 x 375.")] = 256,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Clients at once.")] = 32,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of server and loop.")] = 5,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of a session; default: all.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Where the graphs run, in the server and in the loop; as of `vlkd serve`.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Requests a second over HTTP as a share of an in-process loop with the same decoding, batches and sessions.

    Every picture is sent once a round and differs from all others, and the server's picture cache is off.
    """
    from vlkd_hub.runtime.sessions import available_cpus
    from vlkd_serving.bench_serve.measure import Sizes, latency, side_by_side, throughput
    from vlkd_serving.bench_serve.pictures import draw_jpegs
    from vlkd_serving.bench_serve.processes import free_port, resident_mb, running, serve_command
    from vlkd_serving.loading import SERVED
    from vlkd_serving.parts import OnnxParts
    from vlkd_serving.runtime import OnnxStudent
    from vlkd_serving.settings import ServerSettings

    threads = threads or available_cpus()
    defaults = ServerSettings()
    sizes = Sizes(defaults.max_batch, defaults.max_texts, defaults.pre_workers, concurrency, rounds)
    jpegs = draw_jpegs(pictures)
    report: dict[str, Any] = {"load_average": os.getloadavg(), "threads": threads, "sizes": vars(sizes)}
    report["provider"] = provider
    port = free_port()
    with ExitStack() as stack:
        place = [] if provider is None else ["--provider", provider]
        command = serve_command(bundle, port, threads, "--picture-cache-mb", "0", *place)
        server = stack.enter_context(running(command, port))
        report |= {"start_s": server.start_s, "ready_mb": server.ready_mb}
        parts = OnnxParts(OnnxStudent.from_pretrained(bundle, threads=threads, provider=provider, graphs=SERVED))
        for what in ("embedding", "picture", *(["caption"] if "caption" in parts.tasks else [])):
            report[what] = throughput(server.url, parts, jpegs, sizes, what)
            _print_throughput(what, report[what])
        report["latency"] = latency(server.url, parts, jpegs[:64], rounds)
        report["loaded_mb"] = resident_mb(server.process.pid)
        for name, url in (each.split("=", 1) for each in against or ()):
            report[name] = side_by_side(server.url, url, jpegs, sizes, name)
            typer.echo(
                f"{name:10} {report[name]['their_per_s']:8.1f}/s, this server {report[name]['own_per_s']:.1f}/s: "
                f"{report[name]['times']:.1f}x"
            )
    _print_rest(report)
    write_report(json_path, report)


def _print_throughput(what: str, report: dict[str, Any]) -> None:
    low, high = report["ratio_spread"]
    typer.echo(
        f"{what:10} {report['http_per_s']:8.1f}/s over HTTP, {report['in_process_per_s']:8.1f}/s in process: "
        f"{report['ratio']:.2f} ({low:.2f} to {high:.2f})"
    )
    if "ratio_to_bare_session" in report:
        typer.echo(
            f"{'':10} {report['ratio_to_bare_session']:.2f} of the bare session ({report['bare_session_per_s']:.1f}/s)"
        )


def _print_rest(report: dict[str, Any]) -> None:
    times = report["latency"]
    typer.echo(
        f"latency    {times['http_ms']:8.2f} ms over HTTP, {times['in_process_ms']:.2f} ms in process: "
        f"{times['added_ms']:+.2f} ms at concurrency 1 (medians)"
    )
    typer.echo(
        f"start      {report['start_s']:8.2f} s to ready, {report['ready_mb']:.0f} MB resident; "
        f"{report['loaded_mb']:.0f} MB after the load"
    )
    typer.echo(f"{report['threads']} threads; load average before {report['load_average'][0]:.2f}")
    if report["load_average"][0] > BUSY:
        words = "warning: the machine was at other work before the run; the figures say little"
        typer.secho(words, fg=typer.colors.YELLOW, err=True)
