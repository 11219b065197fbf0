"""``vlkd export``: a student becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vlkd_export.settings import AUTO, DTYPES, TASKS, ExportSettings

__all__ = ["export"]

# One option, one line: the names are those of optimum-cli export onnx wherever it has one.
Opset = Annotated[int, typer.Option("--opset", help="Version of ONNX's operators, 18 to 23.")]
Task = Annotated[str, typer.Option("--task", help=f"What for: {', '.join((AUTO, *TASKS))}.")]
Dtype = Annotated[str, typer.Option("--dtype", help=f"Numbers in the graphs: {', '.join(DTYPES)}.")]
Optimize = Annotated[str, typer.Option("--optimize", help="O0 as traced, O1 cleaned, O2 fused too (onnxruntime only).")]
Monolith = Annotated[bool, typer.Option("--monolith", help="One more graph: pictures and texts to vectors and scores.")]
InGraph = Annotated[bool, typer.Option("--preprocessing-in-graph", help="One more graph: uint8 pictures of any size.")]
Fixed = Annotated[bool, typer.Option("--no-dynamic-axes", help="Encoders take one picture and one padded text.")]
Length = Annotated[int, typer.Option("--sequence-length", help="Tokens of a text with --no-dynamic-axes.")]
AnySize = Annotated[bool, typer.Option("--dynamic-image-size", help="Square pictures of any size (CNN towers only).")]
Device = Annotated[str, typer.Option("--device", help="Where torch runs to be compared with: cpu, cuda.")]
Evaluation = Annotated[Path | None, typer.Option("--evaluation", help="Report of vlkd evaluate, for the manifest.")]


def export(
    model: Annotated[Path, typer.Argument(help="Folder of a saved student, teacher or CLIP.", metavar="MODEL")],
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
    no_dynamic_axes: Fixed = False,
    sequence_length: Length = 64,
    dynamic_image_size: AnySize = False,
    device: Device = "cpu",
    evaluation: Evaluation = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Write a student as an ONNX bundle, and prove that it answers as the student does.

    Every graph is compared with torch, and whole captions and answers, greedy and by beam search, token by token. If
    anything differs there is no bundle.
    """
    settings = ExportSettings(
        opset=opset,
        dtype=dtype,
        atol=atol,
        task=task,
        optimize=optimize,
        monolith=monolith,
        preprocessing_in_graph=preprocessing_in_graph,
        dynamic_axes=not no_dynamic_axes,
        sequence_length=sequence_length,
        dynamic_image_size=dynamic_image_size,
        device=device,
        golden=golden,
        golden_split=golden_split,
        golden_count=golden_count,
        evaluation=evaluation,
    )
    console = Console(stderr=True)
    with console.status("loading torch"):
        from vlkd_export.onnx.export import export_bundle
    with console.status(f"loading {model}") as status:
        manifest = export_bundle(model, output, settings, lambda stage: status.update(f"exporting: {stage}"))
    report = _report(output, manifest)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    worst = max(item["max_abs"] for item in manifest.parity["tensors"])
    texts = sum(item["texts"] for some in manifest.parity["tokens"].values() for item in some)
    size = report["size_bytes"] / (1 << 20)
    typer.echo(f"{output}: {size:.1f} MiB, {manifest.task}, opset {manifest.opset}, {manifest.precision}")
    typer.echo(f"parity with torch: tensors within {worst:.1e}, {texts} texts equal token by token")
    for step in manifest.clean_up:
        if not step["kept"]:
            typer.echo(f"clean-up step {step['step']} of {step['graph']} dropped: {step['reason']}")


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
