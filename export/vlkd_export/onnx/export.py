"""Assemble the bundle: graphs, settings, the gate, the certificate, the manifest. All or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlkd_export.golden import GoldenPicture, drawn_pictures, read_pictures
from vlkd_export.latency import measure_latency
from vlkd_export.onnx.bundle_files import lineage_of, read_evaluation, write_settings
from vlkd_export.onnx.clean_up import clean_up
from vlkd_export.onnx.gate import pass_gate
from vlkd_export.onnx.graph import export_graph
from vlkd_export.onnx.greedy_decoder import add_greedy_decoder
from vlkd_export.onnx.half import to_half
from vlkd_export.onnx.load import load_reference
from vlkd_export.settings import LEVELS, ExportSettings
from vlkd_export.torch_reference import TorchReference
from vlkd_hub.bundle import Manifest, write_manifest
from vlkd_hub.errors import BundleError
from vlkd_hub.runtime import ImageProcessor, OnnxStudent

__all__ = ["export_bundle", "load_reference"]

LIBRARIES = (
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxslim",
    "onnxruntime",
    "tokenizers",
    "numpy",
    "pillow",
    "vlkd-hub",
)
FULL_PRECISION = ("picture_encoder",)
"""Graphs that stay float32: whole bytes have no place in float16's 11 bits once they are weighted sums."""

Say = Callable[[str], None]


def export_bundle(model_path: Path, output: Path, settings: ExportSettings, say: Say = lambda line: None) -> Manifest:
    """Write the model at ``model_path`` as a bundle at ``output``, if and only if it passes the gate.

    Args:
        model_path: folder of a saved student, teacher or CLIP.
        output: the bundle; a former bundle there is replaced at the end, anything else is left alone.
        settings: what was asked for.
        say: told each stage in a few words.

    Returns:
        The manifest of the bundle.

    Raises:
        InvalidInputError: there is no model, it cannot do what was asked, or it generates in a way that the runtime
            does not have.
        BundleError: ``output`` exists and is not a bundle.
        MissingDependencyError: torch does not have the device.
        ParityError: a graph or a text differs from torch; nothing is left at ``output`` but what was there.
        DataError: the golden data set or the evaluation cannot be read.
    """
    _check_output(output)
    pictures = _golden(settings)
    evaluation = read_evaluation(settings.evaluation) if settings.evaluation is not None else {}
    reference = load_reference(model_path)
    reference.to(settings.device)  # told before the minutes of tracing
    draft = _draft(reference, model_path, settings, evaluation)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work:
        bundle = Path(work) / "bundle"
        bundle.mkdir()
        write_settings(reference, bundle, draft.tasks)
        processor = ImageProcessor.from_pretrained(bundle)
        if settings.match_words:
            draft = replace(draft, matching=reference.exporter.matching(processor.output_size))
        reports = _write_graphs(reference, processor, bundle, draft.task, settings, say)
        draft = replace(draft, image_size=processor.output_size[0], clean_up=reports)
        write_manifest(bundle, draft)
        say("comparing with torch")
        student = OnnxStudent.from_pretrained(bundle, verify=False)
        reference.length = draft.fixed_shapes.get("length")
        reference.to(settings.device)
        parity = pass_gate(reference, student, pictures, bundle, settings.tolerance)
        say("taking times")
        manifest = write_manifest(bundle, replace(draft, parity=parity, latency=measure_latency(student)))
        _swap(bundle, output, Path(work) / "former")
    return manifest


def _check_output(output: Path) -> None:
    if output.exists() and not (output / "manifest.json").is_file() and (not output.is_dir() or any(output.iterdir())):
        raise BundleError(f"{output} exists and is not a bundle; it is left alone. Choose another --output.")


def _golden(settings: ExportSettings) -> dict[str, list[GoldenPicture]]:
    pictures = {"drawn": drawn_pictures()}
    if settings.golden is not None:
        pictures["data"] = read_pictures(settings.golden, settings.golden_split, settings.golden_count)
    return pictures


def _draft(
    reference: TorchReference, model_path: Path, settings: ExportSettings, evaluation: dict[str, Any]
) -> Manifest:
    """The manifest as far as it is known before any graph; what cannot be exported is told here."""
    exporter = reference.exporter
    task = exporter.task(settings.task)
    lineage = lineage_of(reference.model, model_path)
    fixed = {} if settings.dynamic_axes else {"batch": 1, "length": exporter.fixed_length(settings)}
    return Manifest(
        model_type=reference.model.config.model_type,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        opset=settings.opset,
        precision=settings.dtype,
        embedding_dim=exporter.embedding_dim,
        image_size=1,  # known when the processor is written
        generation=exporter.generation(task),
        library_versions={name: version(name) for name in LIBRARIES},
        tasks=exporter.prompts(task, dict(getattr(reference.processor, "tasks", None) or {})),
        parity={},
        lineage=lineage,
        task=task,
        parameters=lineage["parameters"],
        fixed_shapes=fixed,
        evaluation=evaluation,
    )


def _write_graphs(
    reference: TorchReference,
    processor: ImageProcessor,
    bundle: Path,
    task: str,
    settings: ExportSettings,
    say: Say,
) -> list[dict[str, Any]]:
    """Trace, clean up and convert; returns the reports of the clean-up."""
    folder = bundle / "onnx"
    folder.mkdir()
    reference.to("cpu")  # where the examples lie that the tracer runs on
    reports: list[dict[str, Any]] = []
    with reference.exporter.tracing(settings):
        for name, make in reference.exporter.graphs(settings, task, processor).items():
            say(f"graph {name}")
            spec = make()
            path = export_graph(spec, folder, settings.opset)
            steps = LEVELS[settings.optimize]
            reports += [asdict(report) for report in clean_up(path, spec.feeds(), steps, settings.tolerance / 10)]
            if name == "decoder" and settings.greedy_decoder and settings.dtype == "fp32":
                reports.append(asdict(add_greedy_decoder(path, spec.feeds())))
            if settings.dtype == "fp16" and name not in FULL_PRECISION:
                to_half(path)
    return reports


def _swap(bundle: Path, output: Path, former: Path) -> None:
    """Put the new bundle in place; the former one goes with the temporary folder that holds it."""
    if output.exists():
        output.rename(former)
    try:
        bundle.rename(output)
    except OSError:
        if former.exists():
            former.rename(output)
        raise
    shutil.rmtree(former, ignore_errors=True)
