"""Each way to write a graph gives nearly the same answers in the bytes that it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from vlkd_export.quantize.graph import load_prepared
from vlkd_export.quantize.methods import METHODS, applies, write_variant
from vlkd_hub.errors import InvalidInputError

from .graphs import VOCAB, conv_tower, tied_decoder, weights
from .test_graph import run

IDS = np.random.RandomState(1).randint(0, VOCAB, (3, 4))
PIXELS = weights(4, 3, 16, 16, seed=6)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of all numbers as one vector."""
    a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize(
    ("method", "largest", "nearest"),
    [
        ("fp32", 1.01, 1.0),
        ("fp16", 0.55, 0.99999),
        ("weights16", 0.56, 0.99999),
        ("dynamic", 0.36, 0.999),
        ("weights", 0.36, 0.999),
    ],
)
def test_a_tied_decoder(method: str, largest: float, nearest: float, tmp_path: Path) -> None:
    """The table counts once in the file, in int8 as in fp32."""
    source, target = tied_decoder(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    write_variant(method, source, target)
    assert target.stat().st_size <= largest * source.stat().st_size
    assert cosine(run(source, ids=IDS), run(target, ids=IDS)) >= nearest
    assert not onnx.load(target).metadata_props


def test_four_bits_are_fewer_than_eight(tmp_path: Path) -> None:
    """And further away, which is why they are only made when asked for."""
    source = tied_decoder(tmp_path / "m.onnx")
    sizes = {}
    for method in ("weights", "weights4"):
        write_variant(method, source, tmp_path / f"{method}.onnx")
        products = [n for n in onnx.load(tmp_path / f"{method}.onnx").graph.node if n.op_type == "MatMulNBits"]
        sizes[method] = {next(item.i for item in node.attribute if item.name == "bits") for node in products}
        assert len(products) == 2
    assert sizes == {"weights": {8}, "weights4": {4}}
    assert 0.98 < cosine(run(source, ids=IDS), run(tmp_path / "weights4.onnx", ids=IDS)) < 0.9999


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_static_ranges(calibration: str, tmp_path: Path) -> None:
    """Each way to choose them; the activations are int8 as well."""
    source, target = conv_tower(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    write_variant(
        "static", source, target, feeds=[{"pixels": PIXELS[:2]}, {"pixels": PIXELS[2:]}], calibration=calibration
    )
    kinds = [node.op_type for node in onnx.load(target).graph.node]
    assert kinds.count("QuantizeLinear") >= 3 and "Relu" not in kinds
    assert cosine(run(source, pixels=PIXELS), run(target, pixels=PIXELS)) > 0.95


def test_hybrid_has_fixed_ranges_for_convolutions_alone(tmp_path: Path) -> None:
    """Products measure their activations as they come."""
    source, target = conv_tower(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    write_variant("hybrid", source, target, feeds=[{"pixels": PIXELS}])
    kinds = [node.op_type for node in onnx.load(target).graph.node]
    assert kinds.count("MatMulInteger") == 2 and kinds.count("QuantizeLinear") >= 2
    assert cosine(run(source, pixels=PIXELS), run(target, pixels=PIXELS)) > 0.98


@pytest.mark.parametrize("method", ["static", "hybrid", "weights"])
def test_what_is_put_back_is_fp32(method: str, tmp_path: Path) -> None:
    """All of it put back is the graph it came from."""
    source, target = conv_tower(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    every = {node.name for node in load_prepared(source).graph.node}
    write_variant(method, source, target, exclude=every, feeds=[{"pixels": PIXELS}])
    np.testing.assert_allclose(run(target, pixels=PIXELS), run(source, pixels=PIXELS), rtol=1e-4, atol=1e-4)
    write_variant(method, source, target, exclude={"deep"}, feeds=[{"pixels": PIXELS}])
    model = onnx.load(target)
    floats = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert [node.input[1] in floats for node in convolutions] == [False, True]


def test_a_table_put_back_stays_one(tmp_path: Path) -> None:
    """With the head in fp32 an int8 copy of the table would only add bytes."""
    source, target = tied_decoder(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    write_variant("dynamic", source, target, exclude={"head"})
    tables = [t for t in onnx.load(target).graph.initializer if VOCAB in t.dims and len(t.dims) == 2]
    assert [t.data_type for t in tables] == [onnx.TensorProto.FLOAT]
    assert cosine(run(source, ids=IDS), run(target, ids=IDS)) > 0.999


def test_which_methods_make_sense(tmp_path: Path) -> None:
    """Dynamic products in a tower of convolutions leave most bytes where they are."""
    tower, decoder = (load_prepared(f(tmp_path / f"{f.__name__}.onnx")) for f in (conv_tower, tied_decoder))
    assert {name for name in METHODS if applies(name, tower)} == set(METHODS) - {"dynamic"}
    assert {name for name in METHODS if applies(name, decoder)} == set(METHODS) - {"hybrid"}


def test_unknown_and_impossible_methods_are_told(tmp_path: Path) -> None:
    """Before anything is written."""
    source = conv_tower(tmp_path / "m.onnx")
    with pytest.raises(InvalidInputError, match="Unknown method 'int3'"):
        write_variant("int3", source, tmp_path / "q.onnx")
    with pytest.raises(InvalidInputError, match="needs pictures or texts to calibrate on"):
        write_variant("static", source, tmp_path / "q.onnx")
    assert not (tmp_path / "q.onnx").exists()


def test_the_quantizers_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They print each node; a person who exports a student can do nothing with that."""
    write_variant("weights", tied_decoder(tmp_path / "m.onnx"), tmp_path / "q.onnx")
    assert capfd.readouterr() == ("", "")


def test_half_the_bytes_and_the_arithmetic_of_fp32(tmp_path: Path) -> None:
    """Kernels are stored in float16, but for what it cannot hold, small tensors and excluded nodes."""
    source, target = conv_tower(tmp_path / "m.onnx"), tmp_path / "q.onnx"
    write_variant("weights16", source, target)
    assert target.stat().st_size <= 0.65 * source.stat().st_size
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(target).graph.initializer}
    halved = {name for name, kind in stored.items() if kind == onnx.TensorProto.FLOAT16}
    assert halved and all(name.endswith("_half") for name in halved)
    assert cosine(run(source, pixels=PIXELS), run(target, pixels=PIXELS)) >= 0.99999
    model = load_prepared(source)
    large = next(tensor for tensor in model.graph.initializer if f"{tensor.name}_half" in halved)
    large.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(large) * 1e6, large.name))
    onnx.save(model, tmp_path / "large.onnx")
    write_variant("weights16", tmp_path / "large.onnx", target)
    assert f"{large.name}_half" not in {tensor.name for tensor in onnx.load(target).graph.initializer}
    first = next(node for node in load_prepared(source).graph.node if node.op_type == "Conv")
    write_variant("weights16", source, target, exclude=[first.name])
    assert first.input[1] in {tensor.name for tensor in onnx.load(target).graph.initializer}
