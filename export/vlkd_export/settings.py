"""Options of one export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import InvalidInputError

__all__ = ["AUTO", "DTYPES", "EMBEDDING_TASKS", "LEVELS", "TASKS", "ExportSettings"]

AUTO = "auto"
"""The task with the most graphs that the model's class has."""
TASKS = {
    "image-text-to-text": "captions, answers and search vectors",
    "image-to-text": "captions and search vectors",
    "visual-question-answering": "answers and search vectors",
    "zero-shot-image-classification": "search vectors, and one graph that scores pictures against texts",
    "feature-extraction": "search vectors only",
}
EMBEDDING_TASKS = ("zero-shot-image-classification", "feature-extraction")
LEVELS: dict[str, tuple[str, ...]] = {"O0": (), "O1": ("slim", "gelu"), "O2": ("slim", "gelu", "fuse")}
"""Steps of clean-up at each level. ``fuse`` brings operators that only onnxruntime has."""
DTYPES = {"fp32": 1e-4, "fp16": 2e-2}
"""Kinds of number in the graphs, and how far a tensor may be from torch's float32 where nothing else is asked for."""
MIN_OPSET, MAX_OPSET = 18, 23


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What ``vlkd export`` was asked for."""

    opset: int = MIN_OPSET
    """Version of ONNX's operators."""
    dtype: str = "fp32"
    """``fp32`` or ``fp16`` (weights and arithmetic; inputs and outputs stay float32)."""
    atol: float | None = None
    """Largest difference between tensors of torch and ONNX, relative to the largest value if that is above 1; None
    takes the one of the dtype."""
    task: str = AUTO
    optimize: str = "O1"
    """Level of graph clean-up, a key of :data:`LEVELS`."""
    monolith: bool = False
    """Write one more graph: pictures and texts in, vectors and scores with temperature out."""
    preprocessing_in_graph: bool = False
    """Write one more graph: uint8 pictures of any size in, vectors out."""
    match_words: bool = False
    """Write two more graphs: patches with their attention, and words, to be compared."""
    greedy_decoder: bool = True
    """Write one more graph: the decoder for greedy search, the size of another decoder. float32 only, where the output
    layer is large and a step of it is measured to be faster."""
    dynamic_axes: bool = True
    """False fixes the encoders' inputs: one picture, one text of ``sequence_length`` tokens."""
    sequence_length: int = 64
    """Tokens of a text where ``dynamic_axes`` is off; texts are padded, and cut, to it."""
    dynamic_image_size: bool = False
    """Let the image graphs take square pictures of any size, where the image tower can."""
    device: str = "cpu"
    """Where torch runs while it is traced and compared with: ``cpu``, ``cuda``, ``cuda:1``."""
    golden: Path | None = None
    """Data set whose pictures the captions are compared on, beside the drawn ones."""
    golden_split: str = "validation"
    golden_count: int = 64
    """Pictures taken from ``golden``."""
    evaluation: Path | None = None
    """JSON of ``vlkd evaluate`` for this model; it goes into the manifest."""

    def __post_init__(self) -> None:
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise InvalidInputError(
                f"opset must lie between {MIN_OPSET} and {MAX_OPSET} (the exporter makes no other), got {self.opset}."
            )
        for name, known in (("dtype", DTYPES), ("optimize", LEVELS)):
            if getattr(self, name) not in known:
                raise InvalidInputError(f"Unknown {name} {getattr(self, name)!r}. Choose one of {', '.join(known)}.")
        if self.atol is not None and not 0 < self.atol <= 0.1:
            raise InvalidInputError(
                f"atol must lie in (0, 0.1], got {self.atol}. Above that, unit vectors of other pictures would pass."
            )
        if self.task != AUTO and self.task not in TASKS:
            raise InvalidInputError(f"Unknown task {self.task!r}. Choose one of {', '.join((AUTO, *TASKS))}.")
        if self.golden_count < 1:
            raise InvalidInputError(
                f"golden_count must be 1 or more, got {self.golden_count}: the gate is never empty."
            )
        if self.sequence_length < 2:
            raise InvalidInputError(
                f"sequence_length must be 2 or more, got {self.sequence_length}: a text has its start and end tokens."
            )
        if self.dynamic_image_size and not self.dynamic_axes:
            raise InvalidInputError("dynamic_image_size with fixed axes makes no sense; leave one of them out.")

    @property
    def tolerance(self) -> float:
        """``atol``, or the one of the dtype."""
        return DTYPES[self.dtype] if self.atol is None else self.atol

    def has_monolith(self, task: str) -> bool:
        """Whether the graph that scores pictures against texts is written."""
        return self.monolith or task == "zero-shot-image-classification"
