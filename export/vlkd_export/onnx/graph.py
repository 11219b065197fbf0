"""From a torch module to one checked ONNX file."""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._pytree import tree_leaves

from vlkd_hub.errors import InvalidInputError

__all__ = ["GraphSpec", "export_graph", "merge_equal_initializers", "save_graph"]

MAX_INLINE_BYTES = 2_000_000_000
"""A protobuf file ends at 2 GiB; above this the weights lie beside it, in ``NAME.onnx.data``."""


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """What the exporter needs to know of one graph."""

    name: str
    module: nn.Module
    example: tuple[Any, ...]
    """Inputs of an ordinary size; a dimension of 0 or 1 would be taken for a constant."""
    dynamic_shapes: tuple[Any, ...] | None
    """As ``torch.export`` takes them: dimension number -> name, in the nesting of ``example``; None fixes them all."""
    input_names: list[str]
    output_names: list[str]

    def feeds(self) -> dict[str, NDArray[Any]]:
        """The example as a session takes it: input name -> array."""
        tensors = tree_leaves(self.example)
        return {name: tensor.detach().cpu().numpy() for name, tensor in zip(self.input_names, tensors, strict=True)}


def export_graph(spec: GraphSpec, directory: Path, opset: int) -> Path:
    """Write ``directory/NAME.onnx`` and check it.

    Args:
        spec: the graph.
        directory: exists.
        opset: version of ONNX's operators.

    Returns:
        Path of the file.

    Raises:
        InvalidInputError: torch cannot trace the module; the message names the graph.
    """
    path = directory / f"{spec.name}.onnx"
    # The exporter tells its progress and its own deprecations; a person who exports a student can do nothing with them.
    for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                spec.module.eval(),
                spec.example,
                dynamo=True,
                dynamic_shapes=spec.dynamic_shapes,
                input_names=spec.input_names,
                output_names=spec.output_names,
                opset_version=opset,
                optimize=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InvalidInputError(f"torch cannot export the graph {spec.name!r}: {error}") from error
    assert program is not None  # with dynamo=True it always is; the type of torch allows None for the old exporter
    model = program.model_proto
    merge_equal_initializers(model)
    _drop_traces(model)
    save_graph(model, path)
    return path


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` at ``path``, its weights beside it where protobuf's limit demands that, and check the file."""
    if model.ByteSize() > MAX_INLINE_BYTES:
        data = path.with_name(f"{path.name}.data")
        data.unlink(missing_ok=True)  # onnx appends to what is there
        onnx.save_model(model, path, save_as_external_data=True, location=data.name)
    else:
        onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)


def merge_equal_initializers(model: onnx.ModelProto) -> int:
    """Keep one copy of weights that are equal (a tied embedding traced twice). Returns how many were dropped."""
    first: dict[tuple[Any, ...], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in model.graph.initializer:
        digest = hashlib.sha256(onnx.numpy_helper.to_array(tensor).tobytes()).digest()
        key = (tensor.data_type, tuple(tensor.dims), digest)
        if key in first:
            renamed[tensor.name] = first[key]
        else:
            first[key] = tensor.name
            kept.append(tensor)
    if renamed:
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = renamed.get(name, name)
        shapes = [info for info in model.graph.value_info if info.name not in renamed]
        del model.graph.initializer[:], model.graph.value_info[:]
        model.graph.initializer.extend(kept)
        model.graph.value_info.extend(shapes)
    return len(renamed)


def _drop_traces(model: onnx.ModelProto) -> None:
    """Remove what the tracer noted on each node: paths of source files of the exporting machine among it."""
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info, *model.functions):
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
