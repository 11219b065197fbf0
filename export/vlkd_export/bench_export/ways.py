"""Every way to run one graph that is installed here: torch, onnxruntime and OpenVINO, in all precisions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkd_export.quantize.graph import load_prepared
from vlkd_export.quantize.methods import Feeds, applies, write_variant
from vlkd_export.quantize.timing import median_times
from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime.providers import installed_providers, open_graph

__all__ = ["ONNX_WAYS", "Bench", "measure", "torch_ways"]

ONNX_WAYS: dict[str, tuple[str, str]] = {
    "onnxruntime fp32": ("fp32", "cpu"),
    "onnxruntime int8 dynamic": ("dynamic", "cpu"),
    "onnxruntime int8 static": ("static", "cpu"),
    "onnxruntime int8 hybrid": ("hybrid", "cpu"),
    "onnxruntime int8 weights": ("weights", "cpu"),
    "openvino fp32": ("fp32", "openvino-fp32"),
    "openvino bf16": ("fp32", "openvino-bf16"),
    "openvino bf16, int8 weights": ("weights", "openvino-bf16"),
    "openvino int8 static": ("static", "openvino"),
}
"""Name -> method of writing the graph, and where it runs."""
TORCH, ORT = "torch fp32", "onnxruntime fp32"


@dataclass
class Bench:
    """What was measured of one graph."""

    graph: str
    ms: dict[int, dict[str, float]] = field(default_factory=dict)
    """Batch size -> way -> median milliseconds."""
    bytes: dict[str, int] = field(default_factory=dict)
    """Way -> size of its ONNX file."""
    cosine: dict[str, float] = field(default_factory=dict)
    """Way -> smallest cosine of a row of its first output with onnxruntime fp32's."""
    failed: dict[str, str] = field(default_factory=dict)

    def ratios(self, batch: int, reference: str) -> dict[str, float]:
        """How many times faster than ``reference`` each way is; empty where that was not measured."""
        ms = self.ms[batch]
        return {name: round(ms[reference] / value, 2) for name, value in ms.items()} if reference in ms else {}


def torch_ways(run: Callable[..., Any], module: torch.nn.Module) -> dict[str, Callable[[Feeds], Any]]:
    """torch in fp32 and with every weight in bf16.

    Args:
        run: ``(module, *tensors)`` to the first output.
        module: float32, eval mode.
    """
    half = copy.deepcopy(module).bfloat16()

    def tensors(feeds: Feeds, dtype: torch.dtype) -> list[torch.Tensor]:
        found = [torch.from_numpy(array) for array in feeds.values()]
        return [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in found]

    def one(feeds: Feeds) -> Any:
        with torch.inference_mode():
            return run(module, *tensors(feeds, torch.float32)).numpy()

    def other(feeds: Feeds) -> Any:
        with torch.inference_mode():
            return run(half, *tensors(feeds, torch.bfloat16)).float().numpy()

    return {TORCH: one, "torch bf16": other}


def measure(
    graph: Path,
    folder: Path,
    feeds: Mapping[int, Feeds],
    calibration: Sequence[Feeds],
    in_torch: Mapping[str, Callable[[Feeds], Any]],
    *,
    threads: int,
    runs: int,
) -> Bench:
    """Time every way in turns, at each batch size.

    Args:
        graph: fp32 ONNX file.
        folder: where variants go.
        feeds: batch size -> inputs.
        calibration: inputs for static ranges.
        in_torch: see :func:`torch_ways`; empty without the model in torch.
        threads: of each way.
        runs: timed runs of each.
    """
    bench = Bench(graph=graph.stem)
    ways: dict[str, Callable[[Feeds], Any]] = dict(in_torch)
    model, here, written = load_prepared(graph), installed_providers(), {}
    for name, (method, provider) in ONNX_WAYS.items():
        if not applies(method, model) or not here[provider]:
            continue
        try:
            if method not in written:
                written[method] = folder / f"{graph.stem}.{method}.onnx"
                write_variant(method, graph, written[method], feeds=calibration)
            session = open_graph(written[method], provider=provider, threads=threads)
            session.run(None, feeds[max(feeds)])
        except VlkdError as error:
            bench.failed[name] = str(error)
            continue
        ways[name] = _first_output(session)
        bench.bytes[name] = written[method].stat().st_size
    wanted = ways[ORT](feeds[max(feeds)])
    bench.cosine = {name: _cosine(wanted, way(feeds[max(feeds)])) for name, way in ways.items()}
    for batch, some in feeds.items():
        bench.ms[batch] = median_times({name: _bound(way, some) for name, way in ways.items()}, runs)
    return bench


def _first_output(session: Any) -> Callable[[Feeds], Any]:
    return lambda feeds: session.run(None, feeds)[0]


def _bound(way: Callable[[Feeds], Any], feeds: Feeds) -> Callable[[], Any]:
    return lambda: way(feeds)


def _cosine(one: Any, other: Any) -> float:
    rows, others = (np.asarray(array, np.float64).reshape(-1, array.shape[-1]) for array in (one, other))
    products = (rows * others).sum(axis=1) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1))
    return round(float(products.min()), 5)
