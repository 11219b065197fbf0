"""``vlkd export``: a student becomes a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vlkd_export.cli.quantization import quantized, say_what_it_cost
from vlkd_export.cli.targets import TARGETS, TargetOptions, write_target
from vlkd_export.quantize.settings import CALIBRATIONS, PRECISIONS, QuantizeSettings, parse_max_drop
from vlkd_export.settings import AUTO, DTYPES, TASKS, ExportSettings
from vlkd_hub.bundle import Manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.reports import write_report

__all__ = ["export"]

# One option, one line: the names are those of optimum-cli export onnx wherever it has one.
Opset = Annotated[int, typer.Option("--opset", help="Version of ONNX's operators, 18 to 23.")]
Task = Annotated[str, typer.Option("--task", help=f"What for: {', '.join((AUTO, *TASKS))}.")]
Dtype = Annotated[str, typer.Option("--dtype", help=f"Numbers in the graphs: {', '.join(DTYPES)}.")]
Optimize = Annotated[str, typer.Option("--optimize", help="O0 as traced, O1 cleaned, O2 fused too (onnxruntime only).")]
Monolith = Annotated[bool, typer.Option("--monolith", help="One more graph: pictures and texts to vectors and scores.")]
InGraph = Annotated[bool, typer.Option("--preprocessing-in-graph", help="One more graph: uint8 pictures of any size.")]
MatchWords = Annotated[bool, typer.Option("--match-words", help="Two more graphs: words against patches (S-SMKE).")]
Greedy = Annotated[
    bool,
    typer.Option(help="One more graph, where it is faster: greedy search that computes the likely words only."),
]
Fixed = Annotated[bool, typer.Option("--no-dynamic-axes", help="Encoders take one picture and one padded text.")]
Length = Annotated[int, typer.Option("--sequence-length", help="Tokens of a text with --no-dynamic-axes.")]
AnySize = Annotated[bool, typer.Option("--dynamic-image-size", help="Square pictures of any size (CNN towers only).")]
Device = Annotated[str, typer.Option("--device", help="Where torch runs to be compared with: cpu, cuda.")]
Evaluation = Annotated[Path | None, typer.Option("--evaluation", help="Report of vlkd evaluate, for the manifest.")]
Precision = Annotated[str, typer.Option("--precision", help=f"fp32, or decided by scores: {', '.join(PRECISIONS)}.")]
MaxDrop = Annotated[str, typer.Option("--max-drop", help="Points that --precision may cost, by measure.")]
Data = Annotated[str | None, typer.Option("--data", help="Data set that --precision is decided on.")]
Split = Annotated[str, typer.Option("--split", help="Split of --data to decide on.")]
ReportSplit = Annotated[str | None, typer.Option("--report-split", help="Split of --data to score at the end only.")]
Providers = Annotated[str, typer.Option("--providers", help="Where --precision tries graphs: cpu,openvino,...")]
Calibration = Annotated[str, typer.Option("--calibration", help=f"Static ranges: {', '.join(CALIBRATIONS)}.")]
To = Annotated[str, typer.Option("--to", help=f"What to write: {', '.join(TARGETS)}.")]
Engine = Annotated[str, typer.Option("--engine-precision", help="TensorRT: fp32, fp16, bf16, int8, fp8.")]
MaxBatch = Annotated[int, typer.Option("--max-batch", help="TensorRT, Triton: most pictures or texts at once.")]
NoBuild = Annotated[bool, typer.Option("--no-build", help="TensorRT: graphs and plan, but no engines yet.")]
Instances = Annotated[int, typer.Option("--instances", help="Triton: copies of each graph side by side.")]
TritonDevice = Annotated[str, typer.Option("--triton-device", help="Triton: where graphs run: cpu, gpu.")]


def export(
    model: Annotated[
        Path, typer.Argument(help="Folder of a saved student, teacher or CLIP; or its fp32 bundle.", metavar="MODEL")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the bundle goes.")],
    golden: Annotated[
        Path | None, typer.Option("--golden", help="Data set (imagefolder) to compare captions and answers on.")
    ] = None,
    golden_split: Annotated[str, typer.Option("--golden-split", help="Split of --golden.")] = "validation",
    golden_count: Annotated[int, typer.Option("--golden-count", help="Pictures taken from --golden.")] = 64,
    task: Task = AUTO,
    opset: Opset = 18,
    dtype: Dtype = "fp32",
    optimize: Optimize = "O1",
    atol: Annotated[
        float | None, typer.Option("--atol", help="Largest difference from torch in a tensor; default: by --dtype.")
    ] = None,
    monolith: Monolith = False,
    preprocessing_in_graph: InGraph = False,
    match_words: MatchWords = False,
    greedy_decoder: Greedy = True,
    no_dynamic_axes: Fixed = False,
    sequence_length: Length = 64,
    dynamic_image_size: AnySize = False,
    device: Device = "cpu",
    evaluation: Evaluation = None,
    precision: Precision = "fp32",
    max_drop: MaxDrop = "r@10=0.5,cider=1.0,vqa=0.5",
    data: Data = None,
    split: Split = "validation",
    report_split: ReportSplit = None,
    providers: Providers = "",
    calibration: Calibration = "minmax",
    to: To = "onnx",
    engine_precision: Engine = "fp16",
    max_batch: MaxBatch = 8,
    no_build: NoBuild = False,
    instances: Instances = 1,
    triton_device: TritonDevice = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Write a student as an ONNX bundle, and prove that it answers as the student does.

    Every graph is compared with torch, and whole captions and answers, greedy and by beam search, token by token. If
    anything differs there is no bundle.

    With --precision the graphs are then written in fewer bits, the fastest way that the scores on --data allow.

    With --to tensorrt or --to triton the bundle is the first step, and MODEL may be a bundle.
    """
    target = TargetOptions(
        to=to,
        engine_precision=engine_precision,
        max_batch=max_batch,
        build=not no_build,
        instances=instances,
        triton_device=triton_device,
    )
    fewer_bits = None
    if precision != "fp32":
        fewer_bits = _fewer_bits(precision, max_drop, data, split, report_split, providers, calibration)
    settings = ExportSettings(
        opset=opset,
        dtype=dtype,
        atol=atol,
        task=task,
        optimize=optimize,
        monolith=monolith,
        preprocessing_in_graph=preprocessing_in_graph,
        match_words=match_words,
        greedy_decoder=greedy_decoder,
        dynamic_axes=not no_dynamic_axes,
        sequence_length=sequence_length,
        dynamic_image_size=dynamic_image_size,
        device=device,
        golden=golden,
        golden_split=golden_split,
        golden_count=golden_count,
        evaluation=evaluation,
    )
    if to != "onnx":
        _to_target(model, output, target, settings, fewer_bits, json_path)
        return
    with Console(stderr=True).status(f"loading {model}") as status:
        manifest, cost = _written(model, output, settings, fewer_bits, status.update)
    report = _report(output, manifest) | ({} if cost is None else {"quantization": cost})
    write_report(json_path, report)
    if cost is not None:
        say_what_it_cost(cost)
        return
    worst = max(item["max_abs"] for item in manifest.parity["tensors"])
    texts = sum(item["texts"] for some in manifest.parity["tokens"].values() for item in some)
    size = report["size_bytes"] / (1 << 20)
    typer.echo(f"{output}: {size:.1f} MiB, {manifest.task}, opset {manifest.opset}, {manifest.precision}")
    typer.echo(f"parity with torch: tensors within {worst:.1e}, {texts} texts equal token by token")
    for step in manifest.clean_up:
        if not step["kept"]:
            typer.echo(f"clean-up step {step['step']} of {step['graph']} dropped: {step['reason']}")


def _to_target(
    model: Path,
    output: Path,
    target: TargetOptions,
    settings: ExportSettings,
    fewer_bits: QuantizeSettings | None,
    json_path: Path | None,
) -> None:
    with Console(stderr=True).status(f"loading {model}") as status:
        report, lines = write_target(
            model,
            output,
            target,
            lambda path: _written(model, path, settings, fewer_bits, status.update),
            status.update,
        )
    write_report(json_path, report)
    for line in lines:
        typer.echo(line)


def _fewer_bits(
    precision: str,
    max_drop: str,
    data: str | None,
    split: str,
    report_split: str | None,
    providers: str,
    calibration: str,
) -> QuantizeSettings:
    if data is None:
        raise InvalidInputError(f"--precision {precision} is decided by scores, so it needs --data (and --split).")
    return QuantizeSettings(
        precision=precision,
        max_drop=parse_max_drop(max_drop),
        data=data,
        split=split,
        report_split=report_split,
        providers=tuple(name.strip() for name in providers.split(",") if name.strip()),
        calibration=calibration,
    )


def _written(
    model: Path, output: Path, settings: ExportSettings, fewer_bits: QuantizeSettings | None, say: Callable[[str], None]
) -> tuple[Manifest, dict[str, Any] | None]:
    """The bundle at ``output``; and the report of the quantization, where there was one."""
    is_bundle = (model / "manifest.json").is_file()
    if is_bundle and fewer_bits is not None:
        return quantized(output, fewer_bits, model, say)
    if is_bundle:
        raise InvalidInputError(f"{model} is a bundle already; with --precision it is written in fewer bits.")
    from vlkd_export.onnx.export import export_bundle

    def fp32(path: Path) -> Manifest:
        return export_bundle(model, path, settings, lambda stage: say(f"exporting: {stage}"))

    return (fp32(output), None) if fewer_bits is None else quantized(output, fewer_bits, fp32, say)


def _report(output: Path, manifest: Any) -> dict[str, Any]:
    return {
        "bundle": str(output),
        "size_bytes": sum(entry.size for entry in manifest.files.values()),
        "task": manifest.task,
        "opset": manifest.opset,
        "precision": manifest.precision,
        "parameters": manifest.parameters,
        "fingerprint": manifest.fingerprint,
        "parity": manifest.parity,
        "clean_up": manifest.clean_up,
        "latency": manifest.latency,
    }
