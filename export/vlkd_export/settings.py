"""Options of one export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import InvalidInputError

__all__ = ["TASKS", "ExportSettings"]

TASKS = {
    "image-text-to-text": "captions, answers and search vectors",
    "feature-extraction": "search vectors only",
}
MIN_OPSET, MAX_OPSET = 18, 23


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What ``vlkd export`` was asked for."""

    opset: int = MIN_OPSET
    """Version of ONNX's operators."""
    atol: float = 1e-4
    """Largest difference between tensors of torch and ONNX, relative to the largest value if that is above 1."""
    task: str = "image-text-to-text"
    golden: Path | None = None
    """Data set whose pictures the captions are compared on, beside the drawn ones."""
    golden_split: str = "validation"
    golden_count: int = 64
    """Pictures taken from ``golden``."""

    def __post_init__(self) -> None:
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise InvalidInputError(
                f"opset must lie between {MIN_OPSET} and {MAX_OPSET} (the exporter makes no other), got {self.opset}."
            )
        if not 0 < self.atol <= 0.1:
            raise InvalidInputError(
                f"atol must lie in (0, 0.1], got {self.atol}. Above that, unit vectors of other pictures would pass."
            )
        if self.task not in TASKS:
            raise InvalidInputError(f"Unknown task {self.task!r}. Choose one of {', '.join(TASKS)}.")
        if self.golden_count < 1:
            raise InvalidInputError(
                f"golden_count must be 1 or more, got {self.golden_count}: the gate is never empty."
            )
