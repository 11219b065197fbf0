"""What ``vlkd export --precision`` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.providers import PROVIDERS, installed_providers

__all__ = ["CALIBRATIONS", "METRICS", "PRECISIONS", "QuantizeSettings", "parse_max_drop"]

PRECISIONS = {
    "int8": ("dynamic", "static", "hybrid", "weights", "weights16"),
    "int4": ("weights4", "weights16"),
    "fp16": ("fp16",),
    "auto": ("fp32", "dynamic", "static", "hybrid", "weights", "weights16"),
}
"""``--precision`` -> the methods that are tried, see :mod:`vlkd_export.quantize.methods`."""
CALIBRATIONS = ("minmax", "entropy", "percentile")
METRICS = {
    "r@1": "retrieval",
    "r@5": "retrieval",
    "r@10": "retrieval",
    "i2t_r@1": "retrieval",
    "i2t_r@5": "retrieval",
    "i2t_r@10": "retrieval",
    "cider": "caption",
    "vqa": "vqa",
}
"""Name in ``--max-drop`` -> the task that is measured for it. All count in points: of a percent, of CIDEr."""


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """How far a bundle may change, and what it is measured on."""

    precision: str = "int8"
    """A key of :data:`PRECISIONS`."""
    max_drop: dict[str, float] = field(default_factory=lambda: {"r@10": 0.5, "cider": 1.0, "vqa": 0.5})
    """Measure -> points that may be lost; measures that the data does not have are left out, and that is noted."""
    data: str
    """Data set, as ``vlkd evaluate`` takes it; calibration needs an imagefolder."""
    split: str = "validation"
    """What is decided on."""
    report_split: str | None = None
    """What is only reported, once, at the end; never decided on."""
    calibration: str = "minmax"
    calibration_split: str = "train"
    calibration_pictures: int = 64
    providers: tuple[str, ...] = ()
    """Where the bundle may run; empty takes ``cpu`` and, where it is installed, ``openvino``."""
    runs: int = 15
    """Timed runs of each graph."""
    max_trials: int = 40
    """Evaluations at most, after which what is still within ``max_drop`` is taken."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidInputError(
                f"precision must be fp32 or one of {', '.join(PRECISIONS)}, got {self.precision!r}."
            )
        if self.calibration not in CALIBRATIONS:
            raise InvalidInputError(f"calibration must be one of {', '.join(CALIBRATIONS)}, got {self.calibration!r}.")
        if not self.max_drop:
            raise InvalidInputError("max_drop is empty: without a limit there is nothing to decide by.")
        for name, points in self.max_drop.items():
            if name not in METRICS or not points >= 0:
                raise InvalidInputError(
                    f"max_drop takes points of 0 or more of {', '.join(METRICS)}, got {name!r}={points}."
                )
        for name in self.providers:
            if name not in PROVIDERS:
                raise InvalidInputError(f"Unknown provider {name!r}. Choose from {', '.join(PROVIDERS)}.")
        for name in ("calibration_pictures", "runs", "max_trials"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be 1 or more, got {getattr(self, name)}.")

    @property
    def places(self) -> tuple[str, ...]:
        """Where the graphs are tried."""
        return self.providers or tuple(name for name in ("cpu", "openvino") if installed_providers()[name])


def parse_max_drop(text: str) -> dict[str, float]:
    """``"r@10=0.5,cider=1.0"`` to measure -> points.

    Raises:
        InvalidInputError: a part is not ``NAME=NUMBER``, or a name comes twice.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            points = float(value)
        except ValueError:
            equals = ""
        if not equals or name in found:
            raise InvalidInputError(f"--max-drop takes NAME=POINTS,NAME=POINTS with each name once, got {text!r}.")
        found[name] = points
    return found
