"""A hostile ONNX file is refused from its bytes, before onnxruntime opens anything it names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime.external_data import check_external_data, external_data


def tensor(location: str | None, **numbers: int) -> TensorProto:
    """A weight of four floats, inside the file or at ``location``."""
    made: TensorProto = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "weight")
    if location is not None:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **numbers}.items():
            made.external_data.add(key=key, value=str(value))
    return made


def model(*, initializer: TensorProto | None = None, constant: TensorProto | None = None) -> onnx.ModelProto:
    """x + weight; the weight is an initializer, or a constant inside a branch of an If."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    if initializer is not None:
        nodes, weights = [helper.make_node("Add", ["x", "weight"], ["y"])], [initializer]
    else:
        branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=constant)], "branch", [], [output])
        nodes, weights = [helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)], []
    return helper.make_model(helper.make_graph(nodes, "graph", [value, flag], [output], weights))


def write(path: Path, made: onnx.ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def test_weights_inside_the_file_need_nothing(tmp_path: Path) -> None:
    """The ordinary bundle."""
    path = write(tmp_path / "m.onnx", model(initializer=tensor(None)))
    assert external_data(path) == []
    check_external_data(path, set())


def test_weights_beside_the_file_pass_when_they_belong_to_the_bundle(tmp_path: Path) -> None:
    """A student above 2 GiB."""
    (tmp_path / "m.onnx.data").write_bytes(bytes(64))
    path = write(tmp_path / "m.onnx", model(initializer=tensor("m.onnx.data", offset=16, length=16)))
    check_external_data(path, {"m.onnx.data"})
    with pytest.raises(BundleError, match="not a file of this bundle"):
        check_external_data(path, set())


@pytest.mark.parametrize("place", ["initializer", "constant"])
@pytest.mark.parametrize(
    "location", ["../secret", "/etc/hostname", "a/../../b", "other.data", "", "*/_ORT_MEM_ADDR_/*"]
)
def test_a_name_outside_the_bundle_is_refused(place: str, location: str, tmp_path: Path) -> None:
    """Wherever in the graph it is hidden."""
    path = write(tmp_path / "m.onnx", model(**{place: tensor(location)}))
    with pytest.raises(BundleError, match="not a file of this bundle"):
        check_external_data(path, {"m.onnx.data"})


@pytest.mark.parametrize("numbers", [{"offset": 60}, {"offset": 0, "length": 65}, {"offset": -8}, {"length": -1}])
def test_bytes_outside_the_weight_file_are_refused(numbers: dict[str, int], tmp_path: Path) -> None:
    """A reader that trusted these numbers would read past the end."""
    (tmp_path / "m.onnx.data").write_bytes(bytes(64))
    numbers = {"length": 16} | numbers
    path = write(tmp_path / "m.onnx", model(initializer=tensor("m.onnx.data", **numbers)))
    with pytest.raises(BundleError, match="reads bytes"):
        check_external_data(path, {"m.onnx.data"})


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    """Two readers may take different ones."""
    twice = tensor("m.onnx.data")
    twice.external_data.add(key="location", value="/etc/hostname")
    path = write(tmp_path / "m.onnx", model(initializer=twice))
    with pytest.raises(BundleError, match="location twice"):
        external_data(path)


def test_broken_bytes_give_one_error(tmp_path: Path) -> None:
    """Cut, flipped or empty: a BundleError or a list, never another exception and never a hang."""
    good = model(initializer=tensor("m.onnx.data", offset=0, length=16)).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    with pytest.raises(BundleError, match="empty"):
        external_data(path)
    path.write_bytes(good[:-3])
    with pytest.raises(BundleError, match="well-formed"):
        external_data(path)
    random = np.random.RandomState(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(good)
        broken[random.randint(len(good))] ^= 1 << random.randint(8)
        path.write_bytes(broken)
        try:
            external_data(path)
        except BundleError:
            refused += 1
    assert refused > 30


def test_deep_nesting_ends(tmp_path: Path) -> None:
    """A file of graphs in graphs must not exhaust the stack."""
    inner = b""
    for _ in range(400):
        for field in (6, 5, 1):  # attribute.g, node.attribute, graph.node
            inner = bytes([field << 3 | 2]) + _length(len(inner)) + inner
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes([7 << 3 | 2]) + _length(len(inner)) + inner)
    with pytest.raises(BundleError, match="nested too deeply"):
        external_data(path)


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def test_links_are_refused_by_the_manifest(tiny_bundle: Path, tmp_path: Path) -> None:
    """External weights must be plain files of the bundle: the manifest's check refuses a link before any session."""
    import shutil

    from vlkd_hub.runtime import OnnxStudent

    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    graph = copy / "onnx" / "decoder.onnx"
    os.replace(graph, tmp_path / "elsewhere.onnx")
    graph.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="link"):
        OnnxStudent.from_pretrained(copy, verify=False)
