"""One Triton model for each graph, run by its onnxruntime backend; and the graph of the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from vlkd_export.tensorrt.decoder_graphs import split_decoder
from vlkd_export.triton.model_config import Enum, graph_tensors, tensor
from vlkd_export.triton.settings import TritonSettings

__all__ = ["common", "graph_config", "load_graphs", "scores_config", "scores_graph"]

ENCODERS = ("image_encoder", "text_encoder")
WARM_LENGTH = 8
"""Size of every dynamic dimension in the request that warms a graph up."""


def load_graphs(bundle: Path) -> dict[str, onnx.ModelProto]:
    """The graphs that are served; the decoder as two, since Triton takes no tensor without elements."""
    names = [*ENCODERS, "cross_attention", "decoder"]
    paths = [bundle / "onnx" / f"{name}.onnx" for name in names]
    graphs = {path.stem: onnx.load(path) for path in paths if path.is_file()}
    if "decoder" in graphs:
        graphs |= split_decoder(graphs.pop("decoder"))
    return graphs


def common(settings: TritonSettings, *, on_device: bool) -> dict[str, Any]:
    """What every model says: versions, instances, and how requests are gathered."""
    kind = "KIND_GPU" if on_device and settings.device == "gpu" else "KIND_CPU"
    return {
        "version_policy": {"latest": {"num_versions": 1}},
        "instance_group": [{"kind": Enum(kind), "count": settings.instances}],
        "dynamic_batching": {
            "preferred_batch_size": [settings.batch],
            "max_queue_delay_microseconds": settings.queue_delay_us,
        },
    }


def graph_config(name: str, model: onnx.ModelProto, settings: TritonSettings) -> dict[str, Any]:
    """The config of one graph: names, types and shapes are its own.

    Raises:
        InvalidInputError: its batch is fixed.
    """
    inputs = graph_tensors(model.graph.input, name)
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "max_batch_size": settings.batch,
        "input": inputs,
        "output": graph_tensors(model.graph.output, name),
        **common(settings, on_device=True),
        "model_warmup": [
            {"name": f"{name}_{rows}", "batch_size": rows, "inputs": [_warm(item) for item in inputs]}
            for rows in sorted({1, settings.batch})
        ],
    }


def _warm(item: dict[str, Any]) -> dict[str, Any]:
    """Zeros for numbers of tokens, chance for real numbers."""
    data = "random_data" if item["data_type"] == "TYPE_FP32" else "zero_data"
    dims = [WARM_LENGTH if size == -1 else size for size in item["dims"]]
    return {"key": item["name"], "value": {"data_type": item["data_type"], "dims": dims, data: True}}


def scores_graph(width: int) -> onnx.ModelProto:
    """``image_embeds (I, d)``, ``text_embeds (T, d)`` -> ``cosine (I, T)``; the vectors have length 1 already."""
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["text_embeds"], ["columns"], perm=[1, 0]),
            helper.make_node("MatMul", ["image_embeds", "columns"], ["cosine"]),
        ],
        "scores",
        [
            rows("image_embeds", TensorProto.FLOAT, ["images", width]),
            rows("text_embeds", TensorProto.FLOAT, ["texts", width]),
        ],
        [rows("cosine", TensorProto.FLOAT, ["images", "texts"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def scores_config(width: int, settings: TritonSettings) -> dict[str, Any]:
    """Every picture against every text: no batch in Triton's sense, since there are two."""
    shared = common(settings, on_device=True)
    del shared["dynamic_batching"]
    return {
        "name": "scores",
        "platform": "onnxruntime_onnx",
        "max_batch_size": 0,
        "input": [tensor("image_embeds", "TYPE_FP32", [-1, width]), tensor("text_embeds", "TYPE_FP32", [-1, width])],
        "output": [tensor("cosine", "TYPE_FP32", [-1, -1])],
        **shared,
    }
