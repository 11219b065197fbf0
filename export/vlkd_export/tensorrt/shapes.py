"""For which shapes a bundle's engines are built: what its graphs allow, tuned for what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vlkd_export.golden import GoldenPicture
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime import OnnxStudent, TextProcessor
from vlkd_hub.runtime.decoder import cache_names
from vlkd_hub.runtime.split_decoder import SplitDecoder
from vlkd_hub.runtime.tensorrt.profiles import ShapeRange, profile_from_shapes

__all__ = ["Limits", "Recorder", "limits_of", "record_calls", "suggest_profiles"]

CALLS_KEPT = 64
"""Recorded calls whose values are kept, a graph; shapes are kept of all."""
RECORDED_TOKENS = 8
"""Tokens written while recording: enough to see the past grow."""

Feeds = dict[str, NDArray[Any]]


class Recorder:
    """A session that notes what it is asked, and passes it on.

    Args:
        session: of onnxruntime, or anything with its ``run``.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.calls: list[Feeds] = []
        self.shapes: list[dict[str, tuple[int, ...]]] = []

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> Any:
        """As the session."""
        self.shapes.append({name: array.shape for name, array in feeds.items()})
        if len(self.calls) < CALLS_KEPT:
            self.calls.append(dict(feeds))
        return self._session.run(output_names, feeds)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest sizes that engines are built for."""

    batch: int = 8
    """Pictures or texts at once; beams count as texts."""
    text: int = 64
    """Tokens of a text or prompt."""
    context: int = 128
    """Picture states and prompt states together."""
    past: int = 32
    """Tokens written before the last one."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InvalidInputError(f"The limit of {name} must be 1 or more, got {value}.")


def limits_of(bundle: Path, batch: int) -> Limits:
    """The largest sizes that the bundle itself names: its tokenizer's, its picture's states, its tasks' lengths."""
    manifest = read_manifest(bundle, verify=False)
    tokenizer = TextProcessor.from_pretrained(bundle).tokenizer
    text = int(tokenizer.truncation["max_length"]) if tokenizer.truncation else 512
    image_encoder = onnx.load(str(bundle / "onnx" / "image_encoder.onnx"), load_external_data=False)
    states = next(item for item in image_encoder.graph.output if item.name == "visual_states")
    seen = int(states.type.tensor_type.shape.dim[1].dim_value)
    written = [int(task.get("max_new_tokens", 20)) for task in manifest.tasks.values()]
    return Limits(batch=batch, text=text, context=seen + text, past=max(1, *written) if written else 1)


def record_calls(bundle: Path, pictures: Sequence[GoldenPicture], texts: Sequence[str]) -> dict[str, Recorder]:
    """Let a bundle embed and write, and note every call of its graphs.

    Returns:
        Graph -> what it was asked; the decoder as ``decoder_first`` and ``decoder_next``.
    """
    student = OnnxStudent.from_pretrained(bundle, verify=False)
    recorders = {name: Recorder(session) for name, session in student.sessions.items() if name != "decoder"}
    student.sessions.update(recorders)
    if student.manifest.generation is not None:
        whole = student.sessions["decoder"]
        recorders |= {"decoder_first": Recorder(_WithoutPast(whole, student)), "decoder_next": Recorder(whole)}
        student.sessions["decoder"] = SplitDecoder(recorders["decoder_first"], recorders["decoder_next"])
    images = [picture.image for picture in pictures]
    for image in images:
        student.embed_images([image])
    for text in texts:
        student.embed_texts([text])
    for task in student.manifest.tasks:
        for picture in pictures:
            student.write_tokens(task, [picture.image], [picture.question], _short(student, task))
    return recorders


def _short(student: OnnxStudent, task: str) -> Any:
    return student.settings(task, num_beams=1, do_sample=False, max_new_tokens=RECORDED_TOKENS)


class _WithoutPast:
    """The whole decoder, asked for its first step without past inputs."""

    def __init__(self, session: Any, student: OnnxStudent) -> None:
        self._session = session
        spec = student.manifest.generation
        assert spec is not None
        self._names = cache_names("past", spec.num_layers)
        self._shape = (spec.num_heads, 0, spec.head_dim)

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> Any:
        rows = feeds["input_ids"].shape[0]
        empty = np.zeros((rows, *self._shape), dtype=np.float32)
        nothing = {"past_mask": np.zeros((rows, 0), np.int64), **dict.fromkeys(self._names, empty)}
        return self._session.run(output_names, dict(feeds) | nothing)


def suggest_profiles(
    graphs: Mapping[str, onnx.ModelProto],
    limits: Limits,
    recorded: Mapping[str, Sequence[Mapping[str, Sequence[int]]]],
) -> dict[str, dict[str, ShapeRange]]:
    """One profile a graph: from 1 to the limits in every dimension that varies, tuned for the most frequent call.

    Args:
        graphs: name -> graph; dynamic dimensions are called ``batch``, ``length``, ``context``, ``past`` or ``step``.
        limits: largest sizes.
        recorded: graph -> shapes of its calls.

    Raises:
        InvalidInputError: a graph was never called, a dimension has another name, or a call is larger than the limits.
    """
    largest = {"batch": limits.batch, "length": limits.text, "context": limits.context, "past": limits.past, "step": 1}
    profiles = {}
    for name, model in graphs.items():
        seen = profile_from_shapes(recorded.get(name, ()))
        profiles[name] = {item.name: _range(name, item, seen[item.name], largest) for item in model.graph.input}
    return profiles


def _range(graph: str, item: onnx.ValueInfoProto, seen: ShapeRange, largest: Mapping[str, int]) -> ShapeRange:
    low, high = [], []
    for dim in item.type.tensor_type.shape.dim:
        if not dim.dim_param:
            low.append(dim.dim_value)
            high.append(dim.dim_value)
        elif dim.dim_param in largest:
            low.append(1)
            high.append(largest[dim.dim_param])
        else:
            raise InvalidInputError(f"{graph}: the dimension {dim.dim_param!r} of {item.name} has no limit here.")
    if any(asked > limit for asked, limit in zip(seen.max, high, strict=True)):
        raise InvalidInputError(
            f"{graph} was asked for {item.name} of {seen.max}, and the limit is {tuple(high)}. Raise the limit."
        )
    return ShapeRange(tuple(low), seen.opt, tuple(high))
