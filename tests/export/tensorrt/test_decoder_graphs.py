"""Two decoder graphs in place of one: the first step without a past, and the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from vlkd_export.tensorrt.decoder_graphs import first_step, split_decoder
from vlkd_hub.errors import InvalidInputError


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def feeds_for(model: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    feeds = {}
    for item in model.graph.input:
        dims = item.type.tensor_type.shape.dim
        shape = [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]
        whole = item.type.tensor_type.elem_type == TensorProto.INT64
        feeds[item.name] = random.integers(1, 5, shape) if whole else random.random(shape, dtype=np.float32)
    return feeds


def test_the_first_step_equals_the_whole_graph_without_a_past(tiny_graphs: dict[str, onnx.ModelProto]) -> None:
    whole = tiny_graphs["decoder"]
    first = first_step(whole)
    for sizes in ({"batch": 2, "context": 5, "step": 1}, {"batch": 1, "context": 3, "step": 4}):
        feeds = feeds_for(first, sizes)
        assert not any(name.startswith("past") for name in feeds)
        everything = feeds | {
            name: array for name, array in feeds_for(whole, sizes | {"past": 0}).items() if name.startswith("past")
        }
        for expected, found in zip(run(whole, everything), run(first, feeds), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_graph_has_branches(tiny_graphs: dict[str, onnx.ModelProto]) -> None:
    """Merged decoders with an ``If`` are what TensorRT refuses."""
    graphs = split_decoder(tiny_graphs["decoder"])
    assert set(graphs) == {"decoder_first", "decoder_next"}
    for model in graphs.values():
        onnx.checker.check_model(model, full_check=True)
        assert not any(item.HasField("g") for node in model.graph.node for item in node.attribute)


def test_a_past_used_in_another_way_is_refused() -> None:
    """Better than a first step that is subtly wrong."""
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["past_key.0", "past_key.0"], ["y"])],
        "g",
        [rows("past_key.0", TensorProto.FLOAT, ["batch", 2, "past", 8])],
        [rows("y", TensorProto.FLOAT, ["batch", 2, "past", 8])],
    )
    with pytest.raises(InvalidInputError, match="reads 'past_key.0' in a Add"):
        first_step(helper.make_model(graph))
    del graph.input[:]
    with pytest.raises(InvalidInputError, match="no past input"):
        first_step(helper.make_model(graph))
