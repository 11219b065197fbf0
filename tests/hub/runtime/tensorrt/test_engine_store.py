"""The engine store: found again by what decides an engine, and by nothing less; never half-written, never damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime.tensorrt.engine_store import EngineKey, EngineStore, onnx_digest
from vlkd_hub.runtime.tensorrt.profiles import ShapeRange

PROFILE = {"x": ShapeRange((1,), (2,), (4,))}
KEY = EngineKey(
    graph="image_encoder",
    onnx_sha256="a" * 64,
    tensorrt_version="10.15.1",
    compute_capability="9.0",
    profiles=[PROFILE],
)
OTHERS = [
    replace(KEY, graph="decoder"),
    replace(KEY, onnx_sha256="b" * 64),
    replace(KEY, tensorrt_version="11.4.0"),
    replace(KEY, compute_capability="8.9"),
    replace(KEY, profiles=[{"x": ShapeRange((1,), (2,), (8,))}]),
    replace(KEY, profiles=[PROFILE, PROFILE]),
    replace(KEY, options=(("level", "5"),)),
]


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def test_saved_and_found(store: EngineStore) -> None:
    assert store.load(KEY) is None
    path = store.save(KEY, b"engine", {"seconds": 3})
    assert store.load(replace(KEY)) == b"engine"
    assert path.name.startswith("image_encoder-sm9.0-trt10.15.1-")
    store.save(KEY, b"another")
    assert EngineStore(store.directory).load(KEY) == b"another"


@pytest.mark.parametrize("other", OTHERS, ids=lambda key: key.name)
def test_whatever_decides_an_engine_is_in_its_key(store: EngineStore, other: EngineKey) -> None:
    """Another graph, GPU, TensorRT, shape: the engine would not load, or would compute something else."""
    store.save(KEY, b"engine")
    assert other.name != KEY.name and other.facts() != KEY.facts()
    assert store.load(other) is None


def test_the_key_is_the_same_in_another_process() -> None:
    """Otherwise every start builds again (onnxruntime#16889)."""
    program = (
        "from vlkd_hub.runtime.tensorrt import EngineKey, ShapeRange\n"
        "print(EngineKey(graph='image_encoder', onnx_sha256='a' * 64, tensorrt_version='10.15.1',"
        "compute_capability='9.0', profiles=[{'x': ShapeRange((1,), (2,), (4,))}]).name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == KEY.name, done.stderr


@pytest.mark.parametrize("damage", [b"", b"engine with one byte more", b"enginf"])
def test_a_damaged_engine_is_set_aside(store: EngineStore, damage: bytes) -> None:
    """Cut off, grown, or with a flipped bit: it is not loaded, and the next build writes a whole one."""
    path = store.save(KEY, b"engine")
    path.write_bytes(damage)
    assert store.load(KEY) is None
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damage
    store.save(KEY, b"engine")
    assert store.load(KEY) == b"engine"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"engine_sha256": 3}', "not json"])
def test_facts_that_say_nothing(store: EngineStore, text: str) -> None:
    """An engine without its facts does not exist: facts are written last."""
    path = store.save(KEY, b"engine")
    path.with_suffix(".json").write_text(text)
    assert store.load(KEY) is None


def test_an_engine_under_a_foreign_name(store: EngineStore) -> None:
    """Renamed by hand, or two keys whose short digests meet: the whole key is compared."""
    path = store.save(OTHERS[2], b"engine")
    for suffix in (".engine", ".json"):
        path.with_suffix(suffix).rename(store.directory / f"{KEY.name}{suffix}")
    assert store.load(KEY) is None


def test_a_write_that_fails_leaves_what_was_there(store: EngineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine goes first and its facts last, each by a rename: at no moment is there half an engine."""
    store.save(KEY, b"engine")
    monkeypatch.setattr("vlkd_hub.runtime.tensorrt.engine_store.os.fsync", _no_space)
    with pytest.raises(OSError, match="No space"):
        store.save(KEY, b"another")
    assert store.load(KEY) is None
    assert [path.name for path in store.directory.iterdir() if path.name.startswith(".")] == []


def _no_space(handle: int) -> None:
    raise OSError(28, "No space left on device")


def test_timing_cache(store: EngineStore) -> None:
    assert store.load_timing_cache() == b""
    store.save_timing_cache(b"measured")
    assert store.load_timing_cache() == b"measured"


def test_digest_of_a_graph_with_weights_beside_it(tmp_path: Path) -> None:
    """Weights outside the file decide the engine as much as those inside."""
    weight = numpy_helper.from_array(np.arange(512, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [512])],
        [weight],
    )
    path = tmp_path / "g.onnx"
    onnx.save_model(helper.make_model(graph), path, save_as_external_data=True, location="g.data", size_threshold=0)
    before = onnx_digest(path)
    assert onnx_digest(path) == before
    data = bytearray((tmp_path / "g.data").read_bytes())
    data[100] ^= 1
    (tmp_path / "g.data").write_bytes(data)
    assert onnx_digest(path) != before
    (tmp_path / "g.data").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        onnx_digest(path)


def test_facts_are_for_people_too(store: EngineStore) -> None:
    path = store.save(KEY, b"engine", {"seconds": 3})
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["key"]["profiles"] == [{"x": [[1], [2], [4]]}] and facts["notes"] == {"seconds": 3}
