"""``vlkd export --to tensorrt`` and ``--to triton``: what comes after the bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkd_hub.errors import InvalidInputError

__all__ = ["TARGETS", "TargetOptions", "write_target"]

TARGETS = ("onnx", "tensorrt", "triton")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """The options that only a target has."""

    to: str = "onnx"
    engine_precision: str = "fp16"
    max_batch: int = 8
    build: bool = True
    """False leaves the engines to the machine that has the GPU."""
    instances: int = 1
    triton_device: str = "cpu"

    def __post_init__(self) -> None:
        if self.to not in TARGETS:
            raise InvalidInputError(f"Unknown target {self.to!r}. Choose one of {', '.join(TARGETS)}.")
        if self.max_batch < 1:
            raise InvalidInputError(f"--max-batch must be 1 or more, got {self.max_batch}.")


def write_target(
    model: Path, output: Path, options: TargetOptions, bundle_at: Callable[[Path], Any], say: Say
) -> tuple[dict[str, Any], list[str]]:
    """Write the target at ``output``, from a bundle, or from a student whose bundle is made first.

    Args:
        model: folder of a bundle or of a student.
        output: where it goes.
        options: what was asked for.
        bundle_at: writes the student's bundle at a path.
        say: told each stage in a few words.

    Returns:
        A report for ``--json``, and lines for the person.

    Raises:
        VlkdError: see the writers.
    """
    write = _tensorrt if options.to == "tensorrt" else _triton
    if (model / "manifest.json").is_file():
        return write(model, output, options, say)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-bundle-") as work:
        bundle_at(Path(work) / "bundle")
        return write(Path(work) / "bundle", output, options, say)


def _tensorrt(bundle: Path, output: Path, options: TargetOptions, say: Say) -> tuple[dict[str, Any], list[str]]:
    from vlkd_export.tensorrt.builder import build_engines
    from vlkd_export.tensorrt.prepare import TensorrtSettings, prepare_tensorrt
    from vlkd_hub.runtime.tensorrt.engine_session import load_tensorrt

    if options.build:
        load_tensorrt()  # told before minutes are spent on graphs
    settings = TensorrtSettings(precision=options.engine_precision, batch=options.max_batch)
    plan = prepare_tensorrt(bundle, output, settings, say)
    report: dict[str, Any] = {"output": str(output), "precision": plan.precision, "checks": dict(plan.checks)}
    cosines = {name: value for name, value in plan.checks["smallest_cosine"].items() if value is not None}
    lines = [f"{output}: {len(plan.profiles)} graphs for TensorRT in {plan.precision}"]
    lines += [f"smallest cosine with fp32: {min(cosines.values()):.6f}"] if cosines else []
    if not options.build:
        return report, [*lines, "no engine was built; on the machine with the GPU: the same without --no-build"]
    built = build_engines(output, say=say)
    report["engines"] = [vars(item) for item in built]
    return report, lines + [f"engine of {item.graph}: {item.seconds:.1f} s" for item in built]


def _triton(bundle: Path, output: Path, options: TargetOptions, say: Say) -> tuple[dict[str, Any], list[str]]:
    from vlkd_export.triton.repository import write_repository
    from vlkd_export.triton.settings import TritonSettings

    settings = TritonSettings(batch=options.max_batch, instances=options.instances, device=options.triton_device)
    configs = write_repository(bundle, output, settings, say)
    report = {"output": str(output), "models": sorted(configs)}
    return report, [f"{output}: {len(configs)} models for Triton: {', '.join(sorted(configs))}"]
