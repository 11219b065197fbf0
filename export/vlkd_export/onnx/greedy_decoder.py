"""The decoder for greedy search, which finds the largest logit without computing all of them.

Most of a step's time goes into reading the output layer's table from memory. Here a table of 7-bit numbers, a quarter
as large, gives for each word an upper bound of its logit; the exact logit is computed for the words with the highest
bounds only. The bound of the best word left out goes with them, so that the caller knows whether the largest logit is
among them; where it does not know, it runs the ordinary graph. So the tokens are those of the ordinary graph always.

With the table's row ``w = q + e`` (``q`` in 7 bits) and the state ``h = g + r`` (``g`` in 8 bits):
``w.h = q.g + q.r + e.h <= q.g + |q| |r| + |e| |h|``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vlkd_export.onnx.clean_up import SLOWER, StepReport, median_times
from vlkd_export.onnx.graph import save_graph
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.runtime.sessions import open_session

__all__ = ["CANDIDATES", "add_greedy_decoder", "greedy_decoder"]

NAME = "greedy_decoder"

CANDIDATES = 128
"""Words whose logits are computed exactly."""
SMALL_TABLE = 8 << 20
"""Bytes of an output layer that the processor's caches hold: reading it is not what a step waits for."""
LEVELS = 63
"""Of 7 bits: processors without VNNI add two products in 16 bits, which 8-bit weights would overflow."""


def add_greedy_decoder(path: Path, feeds: dict[str, NDArray[Any]]) -> StepReport:
    """Write ``greedy_decoder.onnx`` beside the decoder at ``path``; it stays only if a step of it is faster.

    A decoder that it cannot be made of, or whose output layer is small, is left as it is; the report tells.

    Args:
        path: the decoder.
        feeds: an ordinary input of it; its first token is used.
    """
    target = path.with_name(f"{NAME}.onnx")
    try:
        model = onnx.load(path)
        table = _output_layer(model)[1].nbytes
        if table < SMALL_TABLE:
            return _dropped(f"the output layer is small, {table} bytes")
        save_graph(greedy_decoder(model), target)
    except InvalidInputError as error:
        return _dropped(str(error))
    external = {file.name for file in path.parent.iterdir()}
    sessions = [open_session(file, allowed_external=external) for file in (path, target)]
    slow, fast = median_times(sessions, feeds | {"input_ids": feeds["input_ids"][:, :1]})
    sizes = path.stat().st_size, target.stat().st_size
    kept = fast * SLOWER < slow
    if not kept:
        target.unlink()
        target.with_name(f"{target.name}.data").unlink(missing_ok=True)
    reason = "faster" if kept else "not faster than the ordinary decoder"
    times = round(slow, 3), round(fast, 3)
    return StepReport(graph=NAME, step="greedy", kept=kept, reason=reason, bytes=sizes, ms=times)


def greedy_decoder(decoder: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with ``candidates``, ``candidate_logits`` and ``rest`` instead of ``logits``.

    Args:
        decoder: the graph of :mod:`vlkd_export.onnx.decoder`, one token a step.

    Returns:
        A new graph. ``candidates (B, K)`` are token ids, ``candidate_logits (B, K)`` their logits, ``rest (B, 1)`` is
        above every other logit.

    Raises:
        InvalidInputError: the logits are not a product of the last state and a table.
    """
    model = onnx.ModelProto()
    model.CopyFrom(decoder)
    graph = model.graph
    weights = {item.name: item for item in graph.initializer}
    nodes, rows = _output_layer(model)
    last, turned = nodes[0], nodes[1] if len(nodes) > 1 else None
    state, source = last.input[0], turned.input[0] if turned is not None else last.input[1]
    count = min(CANDIDATES, len(rows) - 1)
    graph.node.remove(last)
    if turned is not None:
        graph.node.remove(turned)
    graph.initializer.extend(_tables(rows, count))
    name = source
    if turned is None:
        name = "greedy.rows"
        same = next((key for key, item in weights.items() if list(item.dims) == list(rows.shape)), None)
        if same is not None and np.array_equal(numpy_helper.to_array(weights[same]), rows):
            name = same  # the table of the input words, tied to it
        else:
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(rows), name))
        graph.initializer.remove(weights[source])
    graph.node.extend(_nodes(state, name))
    del graph.value_info[:]
    logits = next(item for item in graph.output if item.name == "logits")
    graph.output.remove(logits)
    batch = next(item for item in graph.input if item.name == "input_ids").type.tensor_type.shape.dim[0].dim_param
    kinds = {"candidates": (onnx.TensorProto.INT64, count), "candidate_logits": (1, count), "rest": (1, 1)}
    present = list(graph.output)
    del graph.output[:]
    for output, (kind, width) in kinds.items():
        graph.output.append(helper.make_tensor_value_info(output, kind, [batch, width]))
    graph.output.extend(present)
    return model


def _output_layer(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], NDArray[np.float32]]:
    """The product that gives the logits, with the Transpose of its table where there is one; and the table (V, d)."""
    weights = {item.name: item for item in model.graph.initializer}
    last = next(node for node in model.graph.node if "logits" in node.output)
    name = last.input[1] if len(last.input) > 1 else ""
    turned = [node for node in model.graph.node if name in node.output and node.op_type == "Transpose"]
    source = turned[0].input[0] if turned else name
    if last.op_type != "MatMul" or source not in weights:
        raise InvalidInputError("the decoder's logits are not a product with a table")
    table = numpy_helper.to_array(weights[source]).astype(np.float32)
    return [last, *turned], table if turned else table.T


def _dropped(reason: str) -> StepReport:
    return StepReport(graph=NAME, step="greedy", kept=False, reason=reason)


def _tables(rows: NDArray[np.float32], count: int) -> list[onnx.TensorProto]:
    scales = np.maximum(np.abs(rows).max(axis=1), 1e-12) / LEVELS
    whole = np.rint(rows / scales[:, None]).astype(np.int8)
    kept = whole * scales[:, None].astype(np.float64)
    arrays = {
        "greedy.table": np.ascontiguousarray(whole.T),  # (d, V)
        "greedy.scales": scales.astype(np.float32),
        "greedy.norms": (np.linalg.norm([kept, rows - kept], axis=2) * (1 + 1e-5)).astype(np.float32),  # (2, V)
        "greedy.flat": np.array([-1, rows.shape[1]], np.int64),
        "greedy.count": np.array([count + 1], np.int64),
        "greedy.parts": np.array([count, 1], np.int64),
        "greedy.one": np.array([1], np.int64),
        "greedy.two": np.array([2], np.int64),
        "greedy.zero_point": np.array(0, np.int8),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _nodes(state: str, rows: str) -> list[onnx.NodeProto]:
    """From the last state ``(B, 1, d)`` to the three outputs; names carry the prefix ``greedy.``."""
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Reshape", [state, "flat"], ["h"], {}),  # (B, d)
        ("DynamicQuantizeLinear", ["h"], ["g8", "g_scale", "g_zero"], {}),
        ("MatMulInteger", ["g8", "table", "g_zero", "zero_point"], ["sums"], {}),  # (B, V)
        ("Cast", ["sums"], ["sums_float"], {"to": 1}),
        ("Mul", ["g_scale", "scales"], ["both_scales"], {}),
        ("Mul", ["sums_float", "both_scales"], ["near"], {}),
        ("DequantizeLinear", ["g8", "g_scale", "g_zero"], ["g"], {}),
        ("Sub", ["h", "g"], ["r"], {}),
        ("ReduceL2", ["r", "one"], ["r_norm"], {"keepdims": 1}),  # (B, 1)
        ("ReduceL2", ["h", "one"], ["h_norm"], {"keepdims": 1}),
        ("Concat", ["r_norm", "h_norm"], ["both_norms"], {"axis": 1}),
        ("Gemm", ["both_norms", "norms", "near"], ["upper"], {}),
        ("TopK", ["upper", "count"], ["bounds", "ids"], {"axis": -1, "largest": 1, "sorted": 1}),
        ("Split", ["ids", "parts"], ["=candidates", "id_left"], {"axis": 1}),
        ("Split", ["bounds", "parts"], ["bounds_kept", "=rest"], {"axis": 1}),
        ("Gather", [f"={rows}", "=candidates"], ["kept"], {"axis": 0}),  # (B, K, d)
        ("Unsqueeze", ["h", "two"], ["column"], {}),  # (B, d, 1)
        ("MatMul", ["kept", "column"], ["exact"], {}),
        ("Squeeze", ["exact", "two"], ["=candidate_logits"], {}),
    ]

    def named(name: str) -> str:
        return name.removeprefix("=") if name.startswith("=") or name == state else f"greedy.{name}"

    return [
        helper.make_node(kind, [named(n) for n in inputs], [named(n) for n in outputs], f"greedy.{place}", **options)
        for place, (kind, inputs, outputs, options) in enumerate(steps)
    ]
