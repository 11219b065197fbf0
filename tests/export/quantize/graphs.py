"""Small graphs for the quantizers' tests, built by hand so that every weight is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
VOCAB, WIDTH = 300, 128


def weights(*shape: int, seed: int = 0) -> Array:
    """Normal, seeded."""
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def save(
    path: Path, nodes: list[Any], values: dict[str, Array], inputs: dict[str, Any], outputs: dict[str, Any]
) -> Path:
    """Write a checked model; inputs and outputs are name -> (type, shape)."""
    infos = [[helper.make_tensor_value_info(n, *spec) for n, spec in some.items()] for some in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in values.items()]
    graph = helper.make_graph(nodes, "g", *infos, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)
    return path


def tied_decoder(path: Path) -> Path:
    """Token numbers -> embedding -> product -> logits by the same table, transposed in the graph."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["hidden"], name="embed"),
        helper.make_node("MatMul", ["hidden", "inner"], ["mixed"], name="inner_product"),
        helper.make_node("Transpose", ["table"], ["columns"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["mixed", "columns"], ["logits"], name="head"),
    ]
    values = {"table": weights(VOCAB, WIDTH), "inner": weights(WIDTH, WIDTH, seed=1)}
    ids, logits = (TensorProto.INT64, ["b", "s"]), (TensorProto.FLOAT, ["b", "s", VOCAB])
    return save(path, nodes, values, {"ids": ids}, {"logits": logits})


def conv_tower(path: Path) -> Path:
    """Pictures -> pointwise and depthwise convolutions -> pooled -> Gemm, whose weight a MatMul reads as well."""
    nodes = [
        helper.make_node("Conv", ["pixels", "first", "bias"], ["a"], name="first", kernel_shape=[7, 7]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "deep"], ["c"], name="deep", group=32, kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("Gemm", ["e", "square", "offset"], ["f"], name="gemm", transB=1),
        helper.make_node("MatMul", ["f", "square"], ["out"], name="product"),
    ]
    values = {
        "first": weights(32, 3, 7, 7),
        "bias": weights(32),
        "deep": weights(32, 1, 3, 3, seed=2),
        "square": weights(32, 32, seed=3),
        "offset": weights(32, seed=4),
    }
    pixels, out = (TensorProto.FLOAT, ["b", 3, 16, 16]), (TensorProto.FLOAT, ["b", 32])
    return save(path, nodes, values, {"pixels": pixels}, {"out": out})
