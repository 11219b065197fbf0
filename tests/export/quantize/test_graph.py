"""What the quantizers are given computes what the exported graph did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from vlkd_export.quantize.graph import TABLES, load_prepared, quantizable, split_groups, table_reads

from .graphs import VOCAB, WIDTH, conv_tower, tied_decoder, weights


def run(model: onnx.ModelProto | Path, **feeds: np.ndarray) -> np.ndarray:
    """First output by onnxruntime."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_tied_tables_are_kept_once(tmp_path: Path) -> None:
    """Twice 47 MB in a decoder of 59 otherwise; and the same logits."""
    path = tied_decoder(tmp_path / "m.onnx")
    model = load_prepared(path)
    assert sorted(len(tensor.dims) and tensor.dims[-1] for tensor in model.graph.initializer) == [WIDTH, VOCAB]
    assert [node.op_type for node in model.graph.node] == ["Gather", "Transpose", "MatMul", "MatMul"]
    ids = np.random.RandomState(0).randint(0, VOCAB, (2, 5))
    np.testing.assert_allclose(run(model, ids=ids), run(path, ids=ids), rtol=1e-5, atol=1e-4)


def test_a_weight_with_two_readers_stays_right(tmp_path: Path) -> None:
    """onnxruntime's own rewriting of Gemm would transpose it under the other one."""
    path = conv_tower(tmp_path / "m.onnx")
    model = load_prepared(path)
    assert "Gemm" not in {node.op_type for node in model.graph.node}
    pixels = weights(2, 3, 16, 16, seed=5)
    np.testing.assert_allclose(run(model, pixels=pixels), run(path, pixels=pixels), rtol=1e-4, atol=1e-4)


def test_a_gemm_that_is_more_than_a_product_is_left(tmp_path: Path) -> None:
    """alpha would be lost."""
    path = conv_tower(tmp_path / "m.onnx")
    model = onnx.load(path)
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.attribute.append(onnx.helper.make_attribute("alpha", 2.0))
    onnx.save_model(model, path)
    assert "Gemm" in {node.op_type for node in load_prepared(path).graph.node}


def test_groups_are_of_one_kind_and_hold_every_node_once(tmp_path: Path, tiny_bundle: Path) -> None:
    """A node in no group could never be put back; one in two would be put back with the wrong ones."""
    for path in (tiny_bundle / "onnx" / "image_encoder.onnx", conv_tower(tmp_path / "m.onnx")):
        model = load_prepared(path)
        groups = split_groups(model)
        names = [name for group in groups for name in group.nodes]
        assert sorted(names) == sorted(node.name for node in quantizable(model))
        assert len(groups) <= 9 and len({group.name for group in groups}) == len(groups)
    assert [group.name for group in groups][:2] == ["Conv 1-1 of 1", "depthwise Conv 1-1 of 1"]


def test_tables_are_a_group(tmp_path: Path) -> None:
    """Only large ones: of a few hundred numbers nothing is won."""
    model = load_prepared(tied_decoder(tmp_path / "m.onnx"))
    assert [node.name for node in table_reads(model)] == ["embed"]
    assert split_groups(model)[0].name == TABLES and split_groups(model)[0].nodes == ("embed",)
