"""``tensorrt/plan.json``: which graphs of a bundle go to TensorRT, for which shapes and in which precision.

The graphs beside it are made where the student is exported; the engines are built from them on the machine that serves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.runtime.tensorrt.profiles import ShapeRange, profile_from_json, profile_to_json

__all__ = ["PLAN_DIRECTORY", "PRECISIONS", "EnginePlan", "graph_path", "read_plan"]

PLAN_DIRECTORY = "tensorrt"
PLAN_NAME = "plan.json"
FORMAT_VERSION = 1
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """What is to be built."""

    precision: str
    """One of :data:`PRECISIONS`; it is in the types of the graphs, since TensorRT 11 knows no other way."""
    profiles: Mapping[str, Mapping[str, ShapeRange]]
    """Graph -> input -> range."""
    checks: Mapping[str, Any] = field(default_factory=dict)
    """What was measured of the graphs where they were made."""

    def write(self, bundle: Path) -> None:
        """Write ``tensorrt/plan.json`` into ``bundle``."""
        data = {
            "format_version": FORMAT_VERSION,
            "precision": self.precision,
            "profiles": {graph: profile_to_json(profile) for graph, profile in self.profiles.items()},
            "checks": dict(self.checks),
        }
        (bundle / PLAN_DIRECTORY / PLAN_NAME).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def graph_path(bundle: str | Path, graph: str) -> Path:
    """Where the graph for TensorRT lies."""
    return Path(bundle) / PLAN_DIRECTORY / f"{graph}.onnx"


def read_plan(bundle: str | Path) -> EnginePlan:
    """Read ``tensorrt/plan.json``.

    Raises:
        BundleError: the bundle has none, or it cannot be used.
    """
    path = Path(bundle) / PLAN_DIRECTORY / PLAN_NAME
    if not path.is_file():
        raise BundleError(
            f"{bundle} holds no graphs for TensorRT. Write some: vlkd export {bundle} --to tensorrt --output OTHER"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] != FORMAT_VERSION or data["precision"] not in PRECISIONS:
            raise ValueError(f"format_version {data['format_version']!r}, precision {data['precision']!r}")
        profiles = {str(graph): profile_from_json(profile) for graph, profile in data["profiles"].items()}
        return EnginePlan(precision=data["precision"], profiles=profiles, checks=dict(data["checks"]))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInputError) as error:
        raise BundleError(f"{path} cannot be used ({error!r}). Export for TensorRT again.") from error
