"""``vlkd export``: a student becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vlkd_export.settings import TASKS, ExportSettings

__all__ = ["export"]


def export(
    model: Annotated[Path, typer.Argument(help="Folder of a saved student.", metavar="MODEL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the bundle goes.")],
    golden: Annotated[
        Path | None, typer.Option("--golden", help="Data set (imagefolder) to compare captions and answers on.")
    ] = None,
    golden_split: Annotated[str, typer.Option("--golden-split", help="Split of --golden.")] = "validation",
    golden_count: Annotated[int, typer.Option("--golden-count", help="Pictures taken from --golden.")] = 64,
    task: Annotated[str, typer.Option("--task", help=f"One of {', '.join(TASKS)}.")] = "image-text-to-text",
    opset: Annotated[int, typer.Option("--opset", help="Version of ONNX's operators, 18 to 23.")] = 18,
    atol: Annotated[float, typer.Option("--atol", help="Largest difference from torch allowed in a tensor.")] = 1e-4,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report there.")] = None,
) -> None:
    """Write a student as an ONNX bundle, and prove that it answers as the student does.

    Every graph is compared with torch, and whole captions and answers, greedy and by beam search, token by token. If
    anything differs there is no bundle.
    """
    settings = ExportSettings(
        opset=opset,
        atol=atol,
        task=task,
        golden=golden,
        golden_split=golden_split,
        golden_count=golden_count,
    )
    console = Console(stderr=True)
    with console.status("loading torch"):
        from vlkd_export.onnx.export import export_bundle
    with console.status(f"loading {model}") as status:
        manifest = export_bundle(model, output, settings, lambda stage: status.update(f"exporting: {stage}"))
    size = sum(entry.size for entry in manifest.files.values())
    report = {
        "bundle": str(output),
        "size_bytes": size,
        "opset": manifest.opset,
        "precision": manifest.precision,
        "fingerprint": manifest.fingerprint,
        "parity": manifest.parity,
    }
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    worst = max(item["max_abs"] for item in manifest.parity["tensors"])
    texts = sum(item["texts"] for some in manifest.parity["tokens"].values() for item in some)
    typer.echo(f"{output}: {size / (1 << 20):.1f} MiB, opset {manifest.opset}, {manifest.precision}")
    typer.echo(f"parity with torch: tensors within {worst:.1e}, {texts} texts equal token by token")
