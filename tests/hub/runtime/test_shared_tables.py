"""A table that several graphs look rows up in is in memory once, and every answer stays what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.sessions import open_session
from vlkd_hub.runtime.shared_tables import shared_tables

TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


def graph(path: Path, tensor: TensorProto, operator: str = "Gather") -> Path:
    """Rows of the table, or its product with a vector."""
    rows = helper.make_tensor_value_info("rows", TensorProto.INT64, [None])
    vector = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, 10])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])
    inputs = [tensor.name, "rows"] if operator == "Gather" else ["rows", tensor.name]
    node = helper.make_node(operator, inputs, ["y"])
    made = helper.make_graph([node], "graph", [rows if operator == "Gather" else vector], [output], [tensor])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def table(name: str, values: np.ndarray = TABLE) -> TensorProto:
    made: TensorProto = numpy_helper.from_array(values, name)
    return made


def test_equal_tables_are_one_array(tmp_path: Path) -> None:
    """Whatever they are called; another table beside them stays with its graph."""
    one = graph(tmp_path / "one.onnx", table("words"))
    two = graph(tmp_path / "two.onnx", table("tokens"))
    other = graph(tmp_path / "other.onnx", table("words", TABLE + 1))
    found = shared_tables([one, two, other], least_bytes=1)
    assert set(found) == {one, two} and found[one]["words"] is found[two]["tokens"]
    np.testing.assert_array_equal(found[one]["words"], TABLE)


@pytest.mark.parametrize("kind", ["small", "multiplied", "other type", "other shape", "outside", "one graph"])
def test_what_is_not_shared(kind: str, tmp_path: Path) -> None:
    """A weight that onnxruntime packs in its own way would be held once more, not once less."""
    values = {"other type": TABLE.astype(np.float16), "other shape": TABLE.reshape(20, 2)}.get(kind, TABLE)
    second = table("tokens", values)
    if kind == "outside":
        second.external_data.add(key="location", value="weights.bin")
    operator = "MatMul" if kind == "multiplied" else "Gather"
    paths = [graph(tmp_path / "one.onnx", table("words"), operator), graph(tmp_path / "two.onnx", second, operator)]
    least = 161 if kind == "small" else 1
    assert shared_tables(paths[:1] if kind == "one graph" else paths, least_bytes=least) == {}


def test_a_session_looks_up_in_the_shared_array(tmp_path: Path) -> None:
    """The session holds no copy: a change of the array is seen by both. It keeps the array alive by itself."""
    paths = [graph(tmp_path / f"{name}.onnx", table(name)) for name in ("one", "two")]
    found = shared_tables(paths, least_bytes=1)
    sessions = [open_session(path, threads=1, shared=found[path]) for path in paths]
    feeds = {"rows": np.array([7, 0], dtype=np.int64)}
    for session in sessions:
        np.testing.assert_array_equal(session.run(None, feeds)[0], TABLE[[7, 0]])
    found[paths[0]]["one"][7] = -1
    del found
    for session in sessions:
        np.testing.assert_array_equal(session.run(None, feeds)[0], [[-1, -1, -1, -1], TABLE[0]])


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """Cut short, it is an error of the bundle."""
    path = graph(tmp_path / "one.onnx", table("words"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BundleError, match="not a well-formed ONNX file"):
        shared_tables([path], least_bytes=1)


def test_a_student_answers_the_same(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, with a table shared between its text encoder and its decoder, which read the same words."""
    from vlkd_hub.runtime import student as module

    graphs = [tiny_bundle / "onnx" / f"{name}.onnx" for name in ("text_encoder", "decoder")]
    assert set(shared_tables(graphs, least_bytes=1)) == set(graphs)
    ids, mask = np.array([[2, 5, 6, 3]]), np.ones((1, 4), np.int64)
    apart = OnnxStudent.from_pretrained(tiny_bundle, threads=1)  # its tables are too small to be shared
    monkeypatch.setattr(module, "shared_tables", lambda paths: shared_tables(paths, least_bytes=1))
    together = OnnxStudent.from_pretrained(tiny_bundle, threads=1)
    for one, other in zip(apart.encode_text(ids, mask), together.encode_text(ids, mask), strict=True):
        np.testing.assert_array_equal(one, other)
    context = np.random.default_rng(0).normal(size=(2, 5, apart.encode_text(ids, mask)[1].shape[-1]))
    states, seen = context.astype(np.float32), np.ones((2, 5), np.int64)
    settings = apart.settings("caption")
    assert apart.generate_from_states(states, seen, settings) == together.generate_from_states(states, seen, settings)


def test_the_memory_of_a_large_table_is_saved(tmp_path: Path) -> None:
    """Two graphs with one table of 64 MB need little more than one: measured in a process of its own."""
    import subprocess
    import sys

    values = np.random.default_rng(0).normal(size=(1 << 14, 1 << 10)).astype(np.float32)
    for name in ("one", "two"):
        node = helper.make_node("Gather", [name, "rows"], ["y"])
        rows = helper.make_tensor_value_info("rows", TensorProto.INT64, [None])
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1 << 10])
        made = helper.make_graph([node], "graph", [rows], [output], [table(name, values)])
        onnx.save(
            helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
            tmp_path / f"{name}.onnx",
        )
    script = """
import sys
from pathlib import Path
from vlkd_hub.runtime.sessions import open_session
from vlkd_hub.runtime.shared_tables import shared_tables
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
paths = [Path(sys.argv[1]) / "one.onnx", Path(sys.argv[1]) / "two.onnx"]
import onnxruntime, ctypes
before = resident()
found = shared_tables(paths) if sys.argv[2] == "shared" else {}
kept = [open_session(path, threads=1, shared=found.get(path)) for path in paths]
ctypes.CDLL(None).malloc_trim(0)
print(resident() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process's memory")
    used = {
        how: float(subprocess.check_output([sys.executable, "-c", script, str(tmp_path), how], timeout=60))
        for how in ("shared", "apart")
    }
    assert used["apart"] - used["shared"] > 48, used
