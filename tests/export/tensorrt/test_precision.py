"""Half precision by types in the graph: what is lowered, what stays, and that it still computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from vlkd_export.tensorrt import precision
from vlkd_export.tensorrt.decoder_graphs import split_decoder
from vlkd_export.tensorrt.precision import FP32_OPERATORS, LOW_TYPES, fp32_nodes, to_mixed_precision
from vlkd_hub.errors import InvalidInputError

SENSITIVE = {"LayerNormalization", "Softmax"}


def weight(name: str, shape: tuple[int, ...], scale: float = 0.1) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32) * scale
    return numpy_helper.from_array(values, name)


def attention() -> onnx.ModelProto:
    """A product, a masked softmax, a layer norm and a unit vector: everything that decides a type."""
    rows = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["scores"], name="product"),
        helper.make_node("Where", ["seen", "zero", "closed"], ["mask"], name="mask"),
        helper.make_node("Add", ["scores", "mask"], ["masked"], name="add_mask"),
        helper.make_node("Softmax", ["masked"], ["weights"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["weights", "wv"], ["mixed"], name="mix"),
        helper.make_node("LayerNormalization", ["mixed", "gain", "bias"], ["normed"], name="norm"),
        helper.make_node("ReduceL2", ["normed", "axes"], ["length"], name="length", keepdims=1),
        helper.make_node("Clip", ["length", "least"], ["clipped"], name="clip"),
        helper.make_node("Div", ["normed", "clipped"], ["y"], name="unit"),
    ]
    constants = [
        weight("wq", (4, 4)),
        weight("wv", (4, 4)),
        weight("gain", (4,)),
        weight("bias", (4,)),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(np.finfo(np.float32).min), "closed"),
        numpy_helper.from_array(np.array(1e-12, np.float32), "least"),
        numpy_helper.from_array(np.array([-1]), "axes"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [rows("x", TensorProto.FLOAT, ["batch", 4]), rows("seen", TensorProto.BOOL, ["batch", 4])],
        [rows("y", TensorProto.FLOAT, ["batch", 4])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


FEEDS = {
    "x": np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32),
    "seen": np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool),
}


def data_types(model: onnx.ModelProto) -> dict[str, int]:
    """Operator -> type of the data it reads; the graph must be of one type for each."""
    types = {item.name: item.data_type for item in model.graph.initializer}
    for item in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        types[item.name] = item.type.tensor_type.elem_type
    return {node.name: types[node.input[0]] for node in model.graph.node if node.input}


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_products_are_lowered_and_norms_are_not(kind: str) -> None:
    typed = to_mixed_precision(attention(), kind)
    found = data_types(typed)
    assert {name: found[name] for name in ("product", "mix")} == dict.fromkeys(("product", "mix"), LOW_TYPES[kind])
    for name in ("add_mask", "softmax", "norm", "length", "unit"):
        assert found[name] == TensorProto.FLOAT, name
    assert [item.type.tensor_type.elem_type for item in typed.graph.output] == [TensorProto.FLOAT]


def test_every_sensitive_node_of_a_real_student_stays(tiny_graphs: dict[str, onnx.ModelProto]) -> None:
    """The list is by operator; a graph whose exporter writes another one must fail here, not on a GPU."""
    graphs = dict(tiny_graphs) | split_decoder(tiny_graphs["decoder"])
    for name, model in graphs.items():
        typed = to_mixed_precision(model, "fp16")
        types = data_types(typed)
        sensitive = [node for node in typed.graph.node if node.op_type in SENSITIVE]
        assert all(types[node.name] == TensorProto.FLOAT for node in sensitive)
        assert len(sensitive) == len([node for node in model.graph.node if node.op_type in SENSITIVE])
        products = [node for node in typed.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
        assert products and all(types[node.name] == TensorProto.FLOAT16 for node in products), name


def test_fp16_answers_as_fp32() -> None:
    """With a mask of -3e38, whose sum in fp16 would be minus infinity."""
    plain, typed = attention(), to_mixed_precision(attention(), "fp16")
    expected, found = (_run(model)[0] for model in (plain, typed))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert np.abs(found - expected).max() > 0, "nothing was lowered"


def test_bf16_answers_as_fp32() -> None:
    """onnxruntime's CPU has no bf16 kernels, so onnx's own evaluator runs it."""
    found = ReferenceEvaluator(to_mixed_precision(attention(), "bf16")).run(None, FEEDS)[0]
    np.testing.assert_allclose(found, _run(attention())[0], atol=5e-2)


def test_a_norm_in_fp16_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why they are kept: with values of a few hundred their squares leave fp16 (65504), and all is lost."""
    model = attention()
    model.graph.initializer[1].CopyFrom(weight("wv", (4, 4), scale=3000))
    expected = _run(model)[0]
    assert (np.sum(_run(to_mixed_precision(model, "fp16"))[0] * expected, axis=1) > 0.999).all()
    monkeypatch.setattr(precision, "FP32_OPERATORS", frozenset({"Where"}))
    with pytest.warns(RuntimeWarning, match="overflow"):
        careless = ReferenceEvaluator(to_mixed_precision(model, "fp16")).run(None, FEEDS)[0]
    assert not (np.sum(careless * expected, axis=1) > 0.999).all()


def _run(model: onnx.ModelProto) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, FEEDS)


def test_the_model_given_is_left_as_it_is() -> None:
    model = attention()
    before = model.SerializeToString()
    to_mixed_precision(model, "fp16")
    assert model.SerializeToString() == before


def test_what_cannot_be_lowered() -> None:
    with pytest.raises(InvalidInputError, match="fp16 or bf16"):
        to_mixed_precision(attention(), "fp8")
    large = attention()
    large.graph.initializer[0].CopyFrom(weight("wq", (4, 4), scale=1e6))
    with pytest.raises(InvalidInputError, match="'wq' holds .* Use bf16"):
        to_mixed_precision(large, "fp16")
    assert to_mixed_precision(large, "bf16").graph.node


def test_the_mask_and_the_unit_vector_are_found_by_the_walk() -> None:
    """They are named by what stands around them, not by their operator: Add and Div are lowered elsewhere."""
    assert {"masked", "mask", "y"} <= fp32_nodes(attention())
    assert not {"Add", "Div"} & FP32_OPERATORS
