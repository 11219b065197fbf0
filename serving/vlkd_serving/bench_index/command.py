"""``vlkd bench index``: a million clustered vectors, built, searched, changed while searched."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vlkd_hub.reports import write_report

__all__ = ["index"]

BUSY = 1.0
"""Load average from which a warning is printed."""
_LIVE_BATCH = 10


def index(
    vectors: Annotated[int, typer.Option("--vectors", min=1000, help="How many.")] = 1_000_000,
    dim: Annotated[int, typer.Option("--dim", min=8, help="Width of each.")] = 256,
    clusters: Annotated[int, typer.Option("--clusters", min=1, help="Centres they are drawn around.")] = 4_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the vectors.")] = 0,
    queries: Annotated[int, typer.Option("--queries", min=10, help="Held-out queries; also the large batch.")] = 1000,
    recall: Annotated[float, typer.Option("--recall", help="Recall@10 to reach.")] = 0.95,
    memory: Annotated[str | None, typer.Option("--memory", help="Budget of the structure, e.g. 400MB.")] = None,
    kind: Annotated[str, typer.Option("--kind", help="auto, flat, hnsw, ivf or ivfpq.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of each; default: every processor.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of the timing.")] = 5,
    adds: Annotated[int, typer.Option("--adds", min=0, help="Vectors added while it is searched.")] = 10_000,
    work: Annotated[Path | None, typer.Option("--work", help="Keep the vectors and the index there.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Queries a second at batch 1 and in one batch, against exact search and bare FAISS, with recall and memory."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from vlkd_serving.bench_index import steps
    from vlkd_serving.bench_index.clusters import ClusteredVectors
    from vlkd_serving.index.sizes import parse_size

    data = ClusteredVectors(rows=vectors, dim=dim, clusters=clusters, seed=seed)
    threads = threads or len(os.sched_getaffinity(0))
    report: dict[str, Any] = {"data": {"generator": "clustered-v1", **asdict(data)}, "threads": threads}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlkd-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        progress = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
        path, place = folder / f"clustered-{vectors}x{dim}-{clusters}-{seed}.npy", folder / "index"
        task = progress.add_task("vectors", total=vectors)
        data.write(path, lambda rows: progress.advance(task, rows))
        size = parse_size(memory) if memory else None
        plan: dict[str, tuple[Any, ...]] = {
            "build": (steps.build_step, place, path, recall, size, kind, threads),
            "speed": (steps.speed_step, place, path, data, queries, threads, rounds),
            "curve": (steps.curve_step, place, path, data, queries, threads),
            "serve": (steps.serve_step, place, data, queries, threads),
            "live": (steps.live_step, place, data, queries, adds, _LIVE_BATCH, threads),
        }
        for name, (step, *args) in plan.items():
            task = progress.add_task(name, total=1)
            report[name] = steps.in_own_process(step, *args)
            progress.advance(task)
            write_report(json_path, report)
    _print(report)


def _print(report: dict[str, Any]) -> None:
    build, speed, serve, live = (report[name] for name in ("build", "speed", "serve", "live"))
    typer.echo(f"{speed['kind']} {speed['structure']}, effort {speed['effort']}: recall@10 {speed['recall_at_10']:.4f}")
    for size, rates in speed["queries_a_second"].items():
        words = "  ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
        ratio, bare = speed["times_flat"][size], speed["of_bare_faiss"][size]
        low, high = speed["of_bare_faiss_spread"][size]
        unscored, mapped = speed["of_unscored_faiss"][size], speed["of_bare_faiss_mapped"][size]
        typer.echo(f"batch {size}: {words}")
        typer.echo(
            f"  {ratio:.1f}x flat, {bare:.2f} of bare FAISS ({low:.2f} to {high:.2f}), {mapped:.2f} with mapped "
            f"vectors; {unscored:.2f} of FAISS unscored"
        )
    for line in report["curve"]:
        typer.echo(
            f"  effort {line['effort']:>4}  recall@10 {line['recall_at_10']:.4f}  "
            f"{line['queries_a_second_1']:>8,.0f}/s alone  {line['queries_a_second_1000']:>8,.0f}/s in one batch"
        )
    typer.echo(f"built in {build['seconds']:.0f} s, peak {build['peak_bytes'] / 1e6:,.0f} MB")
    typer.echo(
        f"serving: {serve['seconds_to_first_answer']:.1f} s to the first answer, peak "
        f"{serve['peak_bytes'] / 1e6:,.0f} MB, of which the index's own "
        f"{serve['own_bytes_of_the_index'] / 1e6:,.0f} MB (the rest are pages of files)"
    )
    typer.echo(
        f"live: {live['added']} added at {live['added_a_second']:.0f}/s during {live['searches']} searches; failed "
        f"{live['failed']}, short {live['short']}, not found {live['not_found']}, missing {live['missing_at_the_end']}"
    )
    typer.echo(f"{report['threads']} threads; load average {speed['load_average']:.2f}")
    if speed["load_average"] > BUSY:
        typer.secho("warning: the machine was busy; compare the ratios only", fg=typer.colors.YELLOW, err=True)
