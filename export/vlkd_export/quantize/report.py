"""What the autopilot did, as JSON and as a picture, with what speaks against the result said in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlkd_export.quantize.autopilot import Autopilot, Trial
from vlkd_export.quantize.pareto import Point, pareto_svg
from vlkd_export.quantize.settings import QuantizeSettings
from vlkd_export.quantize.timing import load_average
from vlkd_export.quantize.workshop import FP32, Choice, Plan, Timed
from vlkd_hub.machine import describe_machine
from vlkd_hub.runtime.sessions import default_threads
from vlkd_hub.runtime.student import OPTIONAL_GRAPHS

__all__ = ["REPORT_NAME", "SVG_NAME", "full_report", "pareto_picture", "summary_of"]

REPORT_NAME, SVG_NAME = "quantization.json", "quantization.svg"
STEPS = 12
"""Decoder steps that count as one text in the picture: an ordinary caption."""
FEW_ANSWERS = 3
"""A limit of fewer answers than these is left to chance."""
BITS = {"fp16": "fp16", "weights16": "fp16", "weights4": "int4"}
"""Precision by method; the others are int8."""


def full_report(
    pilot: Autopilot, settings: QuantizeSettings, unmeasured: list[str], test: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything: the plan with sizes and times, the scores it was decided on, all candidates, all trials, warnings.

    Args:
        pilot: after its search.
        settings: what was asked for.
        unmeasured: measures of ``max_drop`` that the data does not have.
        test: scores on a split that nothing was decided on.
    """
    plan, trial = pilot.plan, pilot.result
    graphs = {graph: _graph(graph, pilot, timed) for graph, timed in pilot.chosen.items()}
    small, large = (sum(item[key] for item in graphs.values()) for key in ("bytes", "fp32_bytes"))
    machine = describe_machine()
    report: dict[str, Any] = {
        "precision": precision_of(plan),
        "statement": _statement(settings, pilot.limits),
        "data": settings.data,
        "split": settings.split,
        "max_drop": dict(pilot.limits),
        "unmeasured": unmeasured,
        "fp32": pilot.baseline,
        "quantized": trial.scores,
        "lost": trial.lost,
        "test": test,
        "plan": graphs,
        "onnx_bytes": {"fp32": large, "quantized": small, "ratio": round(small / large, 4)},
        "machine": {name: machine[name] for name in ("cpu", "features", "cores")},
        "threads": default_threads(None),
        "load_average": load_average(),
        "calibration": {"method": settings.calibration, "pictures": settings.calibration_pictures},
        "candidates": {graph: [_timed(item) for item in timed] for graph, timed in pilot.candidates.items()},
        "failed": pilot.failed,
        "trials": [_trial(item, pilot) for item in pilot.trials],
    }
    others = sorted(path.stem for path in (pilot.workshop.bundle / "onnx").glob("*.onnx") if path.stem not in graphs)
    lines = [
        f"{name} is left out: it holds the float32 weights of graphs that are now others."
        if name in OPTIONAL_GRAPHS
        else f"{name} is left as it was: captions, answers and vectors do not pass through it."
        for name in others
    ]
    lines += _too_fine(pilot.limits, getattr(pilot.scorer, "counts", {}), settings.split)
    return report | {"warnings": _warnings(graphs, settings.precision) + lines}


def summary_of(report: dict[str, Any]) -> dict[str, Any]:
    """The part that goes into the manifest; the rest lies beside it."""
    return {key: value for key, value in report.items() if key not in ("candidates", "trials", "failed")} | {
        "report": REPORT_NAME,
        "picture": SVG_NAME,
    }


def precision_of(plan: Plan) -> str:
    """The name for the manifest: of the graphs' formats the one with the fewest bits."""
    found = {BITS.get(choice.method, "int8") for choice in plan.values() if choice.method != "fp32"}
    return next((name for name in ("int4", "int8", "fp16") if name in found), "fp32")


def pareto_picture(report: dict[str, Any]) -> str:
    """SVG of all trials that were measured with every limit."""
    limits = report["max_drop"]
    points = [
        Point(
            name="chosen" if trial["chosen"] else trial["why"],
            ms=trial["ms"],
            lost=max(trial["lost"][name] for name in limits),
            bytes=trial["bytes"],
            chosen=trial["chosen"],
        )
        for trial in report["trials"]
        if set(limits) <= trial["lost"].keys()
    ]
    title = f"{report['precision']}: one picture, its vector and a caption of {STEPS} tokens, {report['split']} split"
    return pareto_svg(points, title, min(limits.values()))


def _statement(settings: QuantizeSettings, limits: Any) -> str:
    allowed = ", ".join(f"{points:g} of {name}" for name, points in limits.items())
    return (
        f"Decided by task metrics on {settings.split}: no more than {allowed} points lost against fp32. Texts need not "
        "be equal to torch's token by token; the certificate holds this bundle's own answers."
    )


def _graph(graph: str, pilot: Autopilot, timed: Timed) -> dict[str, Any]:
    return _timed(timed) | {"fp32_bytes": pilot.workshop.size(graph, FP32)}


def _timed(item: Timed) -> dict[str, Any]:
    return {
        "method": item.choice.method,
        "provider": item.choice.provider,
        "fp32_groups": list(item.choice.put_back),
        "bytes": item.bytes,
        "ms": {str(batch): ms for batch, ms in item.ms.items()},
        "fp32_ms": {str(batch): ms for batch, ms in item.fp32_ms.items()},
        "output_error": item.error,
        "slower_at_batch": item.slower_at,
    }


def _trial(trial: Trial, pilot: Autopilot) -> dict[str, Any]:
    costs = [_cost(graph, trial.plan.get(graph, FP32), pilot) for graph in pilot.workshop.graphs]
    return {
        "why": trial.why,
        "chosen": trial is pilot.result,
        "plan": {graph: str(choice) for graph, choice in trial.plan.items()},
        "scores": trial.scores,
        "lost": trial.lost,
        "excess": trial.excess,
        "ms": round(sum(ms for ms, _ in costs), 3),
        "bytes": sum(size for _, size in costs),
    }


def _cost(graph: str, choice: Choice, pilot: Autopilot) -> tuple[float, int]:
    """Milliseconds at batch 1 (a decoder as often as a caption needs it) and bytes of one graph.

    Groups that were put back are not timed in every trial: those take the time of the choice without them.
    """
    times = STEPS if graph == "decoder" else 1
    timed = pilot.candidates[graph]
    bare = Choice(method=choice.method, provider=choice.provider)
    found = next((item.ms[1] for item in timed if item.choice == bare), timed[0].fp32_ms[1])
    return times * found, pilot.workshop.size(graph, choice)


def _too_fine(limits: Mapping[str, float], counts: Mapping[str, int], split: str) -> list[str]:
    """Limits that a few single answers decide: chance moves such a measure by more."""
    return [
        f"{name} may lose {points:g} points on {split}, and there one of its {counts[name]} answers is "
        f"{100 / counts[name]:.2g}: chance decides such a limit. Decide on more data, or see --report-split."
        for name, points in limits.items()
        if counts.get(name) and points < FEW_ANSWERS * 100 / counts[name]
    ]


def _warnings(graphs: dict[str, Any], precision: str) -> list[str]:
    lines = []
    for graph, item in graphs.items():
        for batch in item["slower_at_batch"]:
            lines.append(
                f"{graph} at batch {batch} is slower than fp32 in onnxruntime: {item['ms'][str(batch)]:.3f} ms against "
                f"{item['fp32_ms'][str(batch)]:.3f} ms."
            )
        if item["method"] == "fp32" and precision != "auto":
            lines.append(f"{graph} stays fp32: every other way lost more than allowed.")
        if item["method"] == "weights16" and precision != "auto":
            lines.append(
                f"{graph} is stored in float16, not {precision}: every way in fewer bits lost more than allowed or was "
                "slower than fp32."
            )
        if item["provider"] != "cpu":
            lines.append(
                f"{graph} has its speed with provider={item['provider']!r}; elsewhere it may be slower than fp32."
            )
    return lines
