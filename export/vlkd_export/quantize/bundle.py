"""From an fp32 bundle to one in fewer bits: search, write, measure again, say plainly what holds."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlkd_export.certificate import CERTIFICATE_NAME, graph_opsets, write_certificate
from vlkd_export.golden import GoldenPicture, drawn_pictures, read_pictures
from vlkd_export.latency import measure_latency
from vlkd_export.quantize.agreement import agreement
from vlkd_export.quantize.autopilot import Autopilot
from vlkd_export.quantize.metrics import Scorer, measurable, open_scorer
from vlkd_export.quantize.recording import record_calibration, record_timing
from vlkd_export.quantize.report import REPORT_NAME, SVG_NAME, full_report, pareto_picture, summary_of
from vlkd_export.quantize.settings import METRICS, PRECISIONS, QuantizeSettings
from vlkd_export.quantize.workshop import FP32, Plan, Timed, Workshop
from vlkd_hub.bundle import Manifest, read_manifest, write_manifest
from vlkd_hub.errors import BundleError, DataError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.student import OPTIONAL_GRAPHS

__all__ = ["ATOL", "GATE", "is_quantized", "quantize_bundle"]

GATE = "task metric"
ATOL = 2e-2
"""For asking a quantized bundle again elsewhere: other processors round another way."""
TIMING_PICTURES = 8

Say = Callable[[str], None]


def quantize_bundle(
    source: Path, output: Path, settings: QuantizeSettings, say: Say = lambda line: None
) -> dict[str, Any]:
    """Write the fp32 bundle at ``source`` in fewer bits to ``output``.

    Args:
        source: what ``vlkd export`` wrote in fp32, its gate passed.
        output: a folder that does not exist, is empty, or holds a bundle, which is replaced at the end.
        settings: limits, data, places.
        say: told each step.

    Returns:
        The report that also lies in the bundle, see :func:`vlkd_export.quantize.report.full_report`.

    Raises:
        BundleError: ``source`` is not an fp32 bundle, or ``output`` is something else.
        DataError: the data cannot be read, or measures nothing that ``max_drop`` names.
        MissingDependencyError: no evaluator, or a provider that was asked for is not there.
    """
    manifest = read_manifest(source)
    if manifest.precision != "fp32":
        raise BundleError(f"{source} is {manifest.precision}; quantization starts from an fp32 bundle.")
    if output.exists() and not (output / "manifest.json").is_file() and (not output.is_dir() or any(output.iterdir())):
        raise BundleError(f"{output} exists and is not a bundle; it is left alone. Choose another --output.")
    scorer = open_scorer(settings.data, settings.split)
    reported = None if settings.report_split is None else open_scorer(settings.data, settings.report_split)
    limits, unmeasured = measurable(settings, scorer, manifest.generation is not None)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work:
        pilot = _searched(source, Path(work), settings, scorer, limits, say)
        report = full_report(pilot, settings, unmeasured, _test_scores(pilot, settings, reported, say))
        bundle = Path(work) / "bundle"
        _write(source, bundle, pilot.workshop, pilot.plan, report)
        _finish(bundle, source, manifest, report, say)
        former = Path(work) / "former"
        if output.exists():
            output.rename(former)
        bundle.rename(output)
    return report


def _searched(
    source: Path, work: Path, settings: QuantizeSettings, scorer: Scorer, limits: dict[str, float], say: Say
) -> Autopilot:
    say("recording what the graphs are fed")
    opened = OnnxStudent.from_pretrained(source, verify=False).sessions
    sessions = {name: session for name, session in opened.items() if name not in OPTIONAL_GRAPHS}
    pictures = _calibration_pictures(settings)
    feeds = record_calibration(source, sessions, pictures)
    timing = record_timing(source, sessions, pictures[:TIMING_PICTURES])
    workshop = Workshop(source, work / "variants", feeds, settings.calibration)
    candidates: dict[str, list[Timed]] = {}
    failed: dict[str, dict[str, str]] = {}
    for graph in workshop.graphs:
        say(f"writing and timing {graph}")
        choices = workshop.choices(graph, PRECISIONS[settings.precision], settings.places)
        candidates[graph], failed[graph] = workshop.timed(graph, choices, timing[graph], settings.runs)
        workshop.close({})
    pilot = Autopilot(workshop, scorer, limits, candidates, settings.max_trials, say, failed=failed)
    plan = pilot.search()
    say("timing what was chosen")
    pilot.chosen = {
        graph: workshop.timed(graph, [plan.get(graph, FP32)], timing[graph], settings.runs)[0][0]
        for graph in workshop.graphs
    }
    return pilot


def _calibration_pictures(settings: QuantizeSettings) -> list[GoldenPicture]:
    folder, count = Path(settings.data), max(settings.calibration_pictures, TIMING_PICTURES)
    for split in (settings.calibration_split, settings.split):
        if (folder / split / "metadata.jsonl").is_file():
            return read_pictures(folder, split, count)
    raise DataError(
        f"{folder} holds neither {settings.calibration_split}/metadata.jsonl nor {settings.split}/metadata.jsonl: "
        "calibration reads an imagefolder."
    )


def _test_scores(
    pilot: Autopilot, settings: QuantizeSettings, scorer: Scorer | None, say: Say
) -> dict[str, Any] | None:
    """The chosen plan on a split that nothing was decided on."""
    if scorer is None:
        return None
    say(f"scoring {settings.report_split}")
    tasks = [task for task in dict.fromkeys(METRICS[name] for name in pilot.limits) if task in scorer.tasks]
    before = scorer(pilot.workshop.student({}), tasks)
    after = scorer(pilot.workshop.student(pilot.plan), tasks)
    lost = {name: before[name] - after[name] for name in before}
    return {"split": settings.report_split, "fp32": before, "quantized": after, "lost": lost}


def _write(source: Path, bundle: Path, workshop: Workshop, plan: Plan, report: dict[str, Any]) -> None:
    """All files of the fp32 bundle, with the graphs of ``plan`` and the report."""
    shutil.copytree(source, bundle)
    for name in ("manifest.json", CERTIFICATE_NAME):
        (bundle / name).unlink(missing_ok=True)
    for name in OPTIONAL_GRAPHS:  # they hold the float32 weights of graphs that are now others
        for file in (bundle / "onnx").glob(f"{name}.onnx*"):
            file.unlink()
    for graph, choice in plan.items():
        path = workshop.path(graph, choice)
        for file in (path, path.with_name(f"{path.name}.data")):
            (bundle / "onnx" / file.name).unlink(missing_ok=True)
            if file.exists():
                shutil.copy(file, bundle / "onnx" / file.name)
    (bundle / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (bundle / SVG_NAME).write_text(pareto_picture(report), encoding="utf-8")


def _finish(bundle: Path, source: Path, manifest: Manifest, report: dict[str, Any], say: Say) -> None:
    """The manifest, and the certificate of what this very bundle answers."""
    versions = dict(manifest.library_versions)
    if any("openvino" in item["provider"] for item in report["plan"].values()):
        versions["openvino"] = version("openvino")
    draft = replace(
        manifest,
        precision=report["precision"],
        library_versions=versions,
        lineage=manifest.lineage | {"fp32_fingerprint": manifest.fingerprint},
        quantization=summary_of(report),
        evaluation={},
        latency={},
        matching=None,
    )
    write_manifest(bundle, draft)
    say("asking the bundle the golden pictures")
    student = OnnxStudent.from_pretrained(bundle, verify=False)
    pictures = {"drawn": drawn_pictures()}
    agreed = agreement(OnnxStudent.from_pretrained(source, verify=False), student, pictures["drawn"])
    write_certificate(bundle, agreed.answers, pictures, graph_opsets(bundle))
    parity = {
        "gate": GATE,
        "statement": report["statement"],
        "atol": ATOL,
        "pictures": {"drawn": len(pictures["drawn"])},
        "tensors": [],
        "tokens": {},
        "with_fp32": asdict(agreed.with_fp32),
    }
    write_manifest(bundle, replace(draft, parity=parity, latency=measure_latency(student)))


def is_quantized(manifest: Manifest) -> bool:
    """Whether the bundle's gate was the task metric, so that equality with torch is not promised."""
    return manifest.parity.get("gate") == GATE
