"""``--precision`` of ``vlkd export``: the fp32 bundle, then the same in fewer bits, and what that cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from vlkd_export.quantize.settings import QuantizeSettings
from vlkd_hub.bundle import Manifest, read_manifest

__all__ = ["quantized", "say_what_it_cost"]


def quantized(
    output: Path,
    settings: QuantizeSettings,
    fp32: Path | Callable[[Path], Manifest],
    say: Callable[[str], None],
) -> tuple[Manifest, dict[str, Any]]:
    """Write the quantized bundle at ``output``.

    Args:
        output: of ``vlkd export``.
        settings: what was asked for.
        fp32: an fp32 bundle that is there, or what writes one at a path.
        say: told each step.

    Returns:
        Its manifest and the whole report.
    """
    from tempfile import TemporaryDirectory

    from vlkd_export.quantize.bundle import quantize_bundle

    if isinstance(fp32, Path):
        report = quantize_bundle(fp32, output, settings, say)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-fp32-") as work:
            fp32(Path(work) / "bundle")
            report = quantize_bundle(Path(work) / "bundle", output, settings, say)
    return read_manifest(output), report


def say_what_it_cost(report: dict[str, Any]) -> None:
    """Print scores before and after, sizes, times and warnings."""
    sizes = report["onnx_bytes"]
    typer.echo(
        f"{report['precision']}: ONNX files {sizes['quantized'] / 1e6:.1f} MB, {sizes['ratio']:.2f}x of fp32's "
        f"{sizes['fp32'] / 1e6:.1f} MB"
    )
    splits = [(report["split"], report["fp32"], report["quantized"])]
    if report["test"] is not None:
        splits.append((report["test"]["split"], report["test"]["fp32"], report["test"]["quantized"]))
    for split, before, after in splits:
        words = [f"{name} {before[name]:.2f} -> {after[name]:.2f}" for name in after]
        typer.echo(f"{split}: {', '.join(words)}")
    for graph, item in report["plan"].items():
        times = [
            f"batch {batch} {item['fp32_ms'][batch]:.2f} -> {ms:.2f} ms ({item['fp32_ms'][batch] / ms:.1f}x)"
            for batch, ms in item["ms"].items()
        ]
        back = f", fp32: {'; '.join(item['fp32_groups'])}" if item["fp32_groups"] else ""
        typer.echo(f"{graph}: {item['method']} on {item['provider']}{back}: {', '.join(times)}")
    if report["unmeasured"]:
        typer.echo(f"not measured, the data has nothing for it: {', '.join(report['unmeasured'])}")
    for line in report["warnings"]:
        typer.secho(f"warning: {line}", fg=typer.colors.YELLOW, err=True)
