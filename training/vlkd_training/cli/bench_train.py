"""``vlkd bench train``: what the teacher cache saves, what the trainer costs, what chunks of a contrast hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vlkd_hub.reports import write_report

__all__ = ["train"]


def train(
    teacher: Annotated[str, typer.Option(help="Aligned teacher or CLIP: folder or Hub id.")],
    data: Annotated[str, typer.Option(help="Any data set.")] = "scenes:512",
    recipe: Annotated[str, typer.Option(help="Distil recipe whose student is built.")] = "vlkd-scenes",
    split: Annotated[str, typer.Option(help="Split of the data.")] = "train",
    limit: Annotated[int, typer.Option(min=2, help="Pictures.")] = 512,
    batch_size: Annotated[int, typer.Option(min=2, help="Rows a step.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each block.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Blocks of each way, in turns.")] = 3,
    contrast: Annotated[int, typer.Option(help="Batch of the chunked contrast; 0 leaves it out.")] = 1024,
    chunk: Annotated[int, typer.Option(min=1, help="Rows of a chunk.")] = 64,
    whole: Annotated[bool, typer.Option("--whole/--no-whole", help="Also that batch without chunks.")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Seconds of a training step and peak memory: cached teacher, live teacher, a plain loop, a chunked contrast."""
    from vlkd_hub.machine import describe_machine
    from vlkd_training.bench_training import TrainingBench

    load = describe_machine()["load_average"]
    bench = TrainingBench(data, teacher, recipe, split, limit, batch_size, steps)
    report: dict[str, Any] = bench.run(rounds)
    if contrast:
        sizes = [chunk, 0] if whole else [chunk]
        report["contrast"] = [bench.chunk_memory(contrast, size) for size in sizes]
    report |= {"load_before": load, "load_after": describe_machine()["load_average"]}
    for kind in ("wall", "cpu"):
        found = report[kind]
        typer.echo(f"{kind} seconds of a step, median (lowest to highest round):")
        for name, seconds in found["step_s"].items():
            low, high = min(found["step_s_by_round"][name]), max(found["step_s_by_round"][name])
            typer.echo(f"  {name:9} {seconds:7.3f} ({low:.3f} to {high:.3f})  peak {report['peak_mib'][name]:,.0f} MiB")
        epoch, low, high = found["epoch_s"], *(pick(found["trainer_to_loop_by_round"]) for pick in (min, max))
        typer.echo(f"  epoch: live teacher {epoch['uncached']:.1f}, cached {epoch['cached']:.1f}, ", nl=False)
        typer.echo(f"{found['uncached_to_cached']:.1f}x; trainer against a plain loop: ", nl=False)
        typer.echo(f"{found['trainer_to_loop']:.3f}x ({low:.3f} to {high:.3f})")
    typer.echo(f"{report['rows']} rows; building the cache once: {report['build_cache_s']:.1f} s")
    for item in report.get("contrast", []):
        held = f"chunks of {item['chunk']}" if item["chunk"] else "whole"
        typer.echo(f"batch {item['batch']} {held}: peak {item['peak_mib']:,.0f} MiB, {item['seconds']:.1f} s")
    typer.echo(f"load average before {load}, after {report['load_after']}")
    write_report(json_path, report)
