"""The text of ``config.pbtxt``. That Triton's own protobuf reads it is tested by ``make test-triton``."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from vlkd_export.triton.model_config import Enum, graph_tensors, tensor, to_pbtxt
from vlkd_hub.errors import InvalidInputError


def test_text() -> None:
    """Strings quoted, names of enumerations not, lists of messages repeated."""
    config = {
        "name": 'a "b" \\ c',
        "max_batch_size": 8,
        "input": [tensor("x", "TYPE_FP32", [3, -1], optional=True), tensor("y", "TYPE_INT64", [])],
        "policy": {"latest": {"on": True, "kind": Enum("KIND_CPU")}},
    }
    assert to_pbtxt(config).splitlines() == [
        'name: "a \\"b\\" \\\\ c"',
        "max_batch_size: 8",
        "input {",
        '  name: "x"',
        "  data_type: TYPE_FP32",
        "  dims: [3, -1]",
        "  optional: true",
        "}",
        "input {",
        '  name: "y"',
        "  data_type: TYPE_INT64",
        "  dims: []",
        "}",
        "policy {",
        "  latest {",
        "    on: true",
        "    kind: KIND_CPU",
        "  }",
        "}",
    ]


def test_tensors_of_a_graph() -> None:
    rows = helper.make_tensor_value_info
    found = graph_tensors([rows("x", TensorProto.FLOAT, ["batch", 3, "length"])], "g")
    assert found == [tensor("x", "TYPE_FP32", [3, -1])]


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [(TensorProto.FLOAT, [1, 3], "fixed batch"), (TensorProto.DOUBLE, ["batch"], "not served")],
)
def test_tensors_that_are_not_served(kind: int, shape: list[object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        graph_tensors([helper.make_tensor_value_info("x", kind, shape)], "g")
