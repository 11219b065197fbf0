"""A bundle with graphs for TensorRT beside its own: split, typed, held against the operator table, and compared.

Nothing here needs TensorRT or a GPU. The graphs are run by onnxruntime on the CPU, so that what half precision or
quantization costs is known before an engine is built and before anything is timed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from vlkd_export.golden import TEXTS, GoldenPicture, drawn_pictures
from vlkd_export.tensorrt.decoder_graphs import split_decoder
from vlkd_export.tensorrt.operator_support import load_table, require_supported
from vlkd_export.tensorrt.precision import LOW_TYPES, to_mixed_precision
from vlkd_export.tensorrt.quantization import insert_quantization
from vlkd_export.tensorrt.shapes import Limits, Recorder, limits_of, record_calls, suggest_profiles
from vlkd_hub.bundle import read_manifest, write_manifest
from vlkd_hub.errors import BundleError, InvalidInputError, ParityError
from vlkd_hub.runtime.tensorrt.plan import PLAN_DIRECTORY, PRECISIONS, EnginePlan, graph_path

__all__ = ["SMALLEST_COSINE", "TensorrtSettings", "prepare_tensorrt"]

SMALLEST_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.99, "int8": 0.95, "fp8": 0.95}
"""Of any output row with the fp32 graph's, by precision; below it there is no plan."""
GRAPHS = ("image_encoder", "text_encoder", "cross_attention", "decoder")
COMPARED_CALLS = 4
"""Recorded calls of each graph that are run in both precisions."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TensorrtSettings:
    """What ``vlkd export --to tensorrt`` was asked for."""

    precision: str = "fp16"
    batch: int = 8
    """Largest number of pictures, texts or beams at once."""
    limits: Limits | None = None
    """Largest sizes; None takes those that the bundle names."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidInputError(f"Unknown precision {self.precision!r}; TensorRT has {', '.join(PRECISIONS)}.")


def prepare_tensorrt(
    bundle: Path, output: Path, settings: TensorrtSettings, say: Say = lambda line: None
) -> EnginePlan:
    """Copy ``bundle`` to ``output`` with the graphs and the plan for TensorRT in it.

    Args:
        bundle: what ``vlkd export`` wrote, in fp32.
        output: must not exist, or be a bundle, which is replaced.
        settings: what was asked for.
        say: told each stage in a few words.

    Returns:
        The plan; its ``checks`` hold the smallest cosine of every graph with its fp32 form.

    Raises:
        BundleError: ``bundle`` is not whole, or ``output`` is something else.
        InvalidInputError: the bundle is not fp32, or TensorRT would refuse a graph.
        ParityError: a graph in the wanted precision answers too differently.
    """
    manifest = read_manifest(bundle)
    if manifest.precision != "fp32":
        raise InvalidInputError(
            f"{bundle} is {manifest.precision}; TensorRT's graphs are made from fp32. Export the student without "
            "--precision and choose it for TensorRT."
        )
    if output.exists() and not (output / "manifest.json").is_file():
        raise BundleError(f"{output} exists and is not a bundle; it is left alone. Choose another --output.")
    say("recording shapes")
    recorded = record_calls(bundle, _pictures(), list(TEXTS))
    graphs = _fp32_graphs(bundle)
    limits = settings.limits or limits_of(bundle, settings.batch)
    profiles = suggest_profiles(graphs, limits, {name: some.shapes for name, some in recorded.items()})
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work:
        copy = Path(work) / "bundle"
        shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns(PLAN_DIRECTORY, "engines"))
        (copy / PLAN_DIRECTORY).mkdir()
        checks: dict[str, Any] = {"tensorrt_table": load_table()["tensorrt"], "smallest_cosine": {}}
        for name, model in graphs.items():
            say(f"graph {name} in {settings.precision}")
            typed = _typed(model, settings.precision, recorded[name])
            require_supported(typed, name)
            _save(typed, graph_path(copy, name))
            cosine = _compare(name, model, copy, recorded[name], settings.precision)
            checks["smallest_cosine"][name] = cosine
        plan = EnginePlan(precision=settings.precision, profiles=profiles, checks=checks)
        plan.write(copy)
        write_manifest(copy, manifest)
        if output.exists():
            output.rename(Path(work) / "former")
        copy.rename(output)
    return plan


def _pictures() -> Sequence[GoldenPicture]:
    return drawn_pictures()


def _fp32_graphs(bundle: Path) -> dict[str, onnx.ModelProto]:
    paths = [bundle / "onnx" / f"{name}.onnx" for name in GRAPHS]
    graphs = {path.stem: onnx.load(path) for path in paths if path.is_file()}
    if "decoder" in graphs:
        graphs |= split_decoder(graphs.pop("decoder"))
    return graphs


def _typed(model: onnx.ModelProto, precision: str, recorded: Recorder) -> onnx.ModelProto:
    if precision in LOW_TYPES:
        return to_mixed_precision(model, precision)
    return model if precision == "fp32" else insert_quantization(model, precision, recorded.calls)


def _save(model: onnx.ModelProto, path: Path) -> None:
    large = model.ByteSize() > 2_000_000_000
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data" if large else None)


def _compare(name: str, model: onnx.ModelProto, copy: Path, recorded: Recorder, precision: str) -> float | None:
    """Smallest cosine of any output row with the fp32 graph's; None where onnxruntime's CPU has no such type."""
    if precision == "bf16":
        return None
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / f"{name}.onnx"
        _save(model, path)
        before, after = _plain_session(path), _plain_session(graph_path(copy, name))
        smallest = 1.0
        for feeds in recorded.calls[:: max(1, len(recorded.calls) // COMPARED_CALLS)]:
            smallest = min(smallest, *map(_cosine, before.run(None, feeds), after.run(None, feeds)))
    if not smallest >= SMALLEST_COSINE[precision]:
        raise ParityError(
            f"The graph {name} in {precision} has outputs with a cosine of {smallest:.4f} to those in fp32; allowed "
            f"is {SMALLEST_COSINE[precision]}. Choose a finer precision for TensorRT."
        )
    return smallest


def _plain_session(path: Path) -> Any:
    """Node by node, without fusions: onnxruntime fuses Q/DQ nodes into kernels that know no 8-bit float."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _cosine(expected: Any, found: Any) -> float:
    rows, others = (np.asarray(array, np.float64).reshape(-1, expected.shape[-1]) for array in (expected, found))
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    return float(((rows * others).sum(axis=1) / np.maximum(norms, 1e-30)).min())
