"""``vlkd bench export``: torch, onnxruntime and OpenVINO in every precision, side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from vlkd_hub.reports import write_report

if TYPE_CHECKING:
    from vlkd_export.bench_export.ways import Bench

__all__ = ["bench_export"]

BATCHES = (1, 8)
TOWER = "ViT-B/32 image tower, random weights"


def bench_export(
    bundle: Annotated[Path | None, typer.Argument(help="An fp32 bundle: its graphs are timed too.")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="The student of that bundle, to time torch too.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Pictures to calibrate on; default: drawn ones.")] = None,
    tower: Annotated[bool, typer.Option("--tower/--no-tower", help=f"Time a {TOWER}.")] = True,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed runs of each.")] = 15,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of each; default: every processor.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Milliseconds at batch 1 and 8, all in turns: torch fp32 and bf16, onnxruntime and OpenVINO, fp32 to int8."""
    import torch

    from vlkd_export.caption_latency import busy_share
    from vlkd_export.quantize.timing import load_average
    from vlkd_hub.errors import InvalidInputError
    from vlkd_hub.machine import describe_machine
    from vlkd_hub.runtime.sessions import default_threads

    if bundle is None and not tower:
        raise InvalidInputError("Nothing to time: give a bundle, or leave --no-tower out.")
    threads = default_threads(threads)
    torch.set_num_threads(threads)
    report: dict[str, Any] = {"threads": threads, "runs": runs, "cpu": describe_machine()["cpu"]}
    report |= {"busy_before": busy_share(), "load_average_before": load_average(), "graphs": {}}
    console = Console()
    with tempfile.TemporaryDirectory() as work:
        benches = _tower(Path(work), threads, runs) if tower else {}
        if bundle is not None:
            benches |= _bundle(bundle, model, data, Path(work), threads, runs)
    for name, bench in benches.items():
        for batch in bench.ms:
            console.print(_table(name, bench, batch))
        for way, why in bench.failed.items():
            console.print(f"{way}: {why}", highlight=False, markup=False)
        ratios = {str(batch): bench.ratios(batch, "torch fp32") for batch in bench.ms}
        report["graphs"][name] = vars(bench) | {"times_faster_than_torch_fp32": ratios}
    report["load_average_after"] = load_average()
    busy, loads = report["busy_before"], (report["load_average_before"], report["load_average_after"])
    console.print(
        f"{threads} threads, median of {runs} in turns; busy before {busy}; load average {loads[0]} to {loads[1]}"
    )
    write_report(json_path, report)


def _tower(work: Path, threads: int, runs: int) -> dict[str, Bench]:
    from vlkd_export.bench_export.clip_tower import VIT_B_32, export_clip_tower
    from vlkd_export.bench_export.ways import measure, torch_ways

    folder = work / "tower"
    folder.mkdir()
    module, graph = export_clip_tower(folder, VIT_B_32)
    feeds = {batch: {"pixel_values": module.pixels(batch)} for batch in BATCHES}
    calibration = [{"pixel_values": module.pixels(batch)} for batch in (3, 4, 5)]
    ways = torch_ways(lambda net, pixels: net(pixels), module)
    return {TOWER: measure(graph, folder, feeds, calibration, ways, threads=threads, runs=runs)}


def _bundle(
    bundle: Path, model: Path | None, data: Path | None, work: Path, threads: int, runs: int
) -> dict[str, Bench]:
    from vlkd_export.bench_export.ways import measure, torch_ways
    from vlkd_export.golden import drawn_pictures, read_pictures
    from vlkd_export.quantize.recording import record_calibration, record_timing
    from vlkd_hub.inference import TorchStudent
    from vlkd_hub.runtime import OnnxStudent

    split = next((name for name in ("train", "validation") if data and (data / name / "metadata.jsonl").is_file()), "")
    pictures = read_pictures(data, split, 16) if data is not None and split else drawn_pictures()
    sessions = OnnxStudent.from_pretrained(bundle).sessions
    calibration = record_calibration(bundle, sessions, pictures)
    timing = record_timing(bundle, sessions, pictures)
    in_torch: dict[str, Any] = {}
    if model is not None:
        module = TorchStudent.from_pretrained(model).model
        in_torch["image_encoder"] = torch_ways(lambda net, pixels: net.encode_image(pixels)[0], module)
        in_torch["text_encoder"] = torch_ways(lambda net, ids, mask: net.encode_text(ids, mask)[0], module)
    work = work / "bundle"
    work.mkdir()
    return {
        name: measure(
            bundle / "onnx" / f"{name}.onnx",
            work,
            timing[name],
            calibration[name],
            in_torch.get(name, {}),
            threads=threads,
            runs=runs,
        )
        for name in calibration
    }


def _table(name: str, bench: Bench, batch: int) -> Table:
    table = Table(title=f"{name}, batch {batch}", title_justify="left", box=SIMPLE, pad_edge=False)
    table.add_column("way", no_wrap=True)
    for title in ("ms", "x torch", "x onnxruntime", "MB", "cosine"):
        table.add_column(title, justify="right")
    ratios = [bench.ratios(batch, reference) for reference in ("torch fp32", "onnxruntime fp32")]
    for way, ms in bench.ms[batch].items():
        against = [f"{found[way]:.2f}" if way in found else "-" for found in ratios]
        size = f"{bench.bytes[way] / 1e6:.1f}" if way in bench.bytes else "-"
        table.add_row(way, f"{ms:.2f}", *against, size, f"{bench.cosine[way]:.5f}")
    return table
