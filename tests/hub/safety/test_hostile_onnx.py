"""A bundle made by somebody hostile: right hashes, a wrong graph. One clear error each, no crash, no file opened.

The bundles are opened in one process of its own, with its memory limited; if it dies, the last line says where.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlkd_hub.bundle import read_manifest, write_manifest

from .canary import Canary

SCRIPT = Path(__file__).with_name("open_bundles.py")
GRAPH = "onnx/text_encoder.onnx"
DIM, WIDTH = 8, 16

Change = Callable[[Path], None]


def graph(nodes: list[Any], weights: Sequence[Any] = (), opset: int = 18, domain: str = "") -> onnx.ModelProto:
    """A text encoder that would answer with zeros, plus the largest number in ``found``, which ``nodes`` make."""
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")
    )
    embeds = helper.make_tensor_value_info("embeds", TensorProto.FLOAT, ["b", DIM])
    states = helper.make_tensor_value_info("states", TensorProto.FLOAT, ["b", "t", WIDTH])
    constants = [
        numpy_helper.from_array(np.array([1, DIM], np.int64), "shape_embeds"),
        numpy_helper.from_array(np.array([WIDTH], np.int64), "width"),
    ]
    answer = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Concat", ["shape", "width"], ["shape_states"], axis=0),
        helper.make_node("ConstantOfShape", ["shape_states"], ["states"]),
        helper.make_node("ConstantOfShape", ["shape_embeds"], ["zeros"]),
        helper.make_node("ReduceMax", ["found"], ["most"], keepdims=0),
        helper.make_node("Add", ["zeros", "most"], ["embeds"]),
    ]
    made = helper.make_graph([*nodes, *answer], "g", [ids, mask], [embeds, states], [*constants, *weights])
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def tensor(dims: list[int], raw: bytes = b"", **external: Any) -> TensorProto:
    """A float weight by its declared shape; ``external`` makes it point elsewhere."""
    made = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=dims)
    if not external:
        made.raw_data = raw
    else:
        made.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            made.external_data.add(key=key, value=str(value))
    return made


USE = [helper.make_node("Identity", ["weight"], ["found"])]


def put(model: onnx.ModelProto) -> Change:
    return lambda folder: (folder / GRAPH).write_bytes(model.SerializeToString()) and None


def with_data(model: onnx.ModelProto) -> Change:
    """A weight file of 64 bytes lies beside the graph and belongs to the bundle."""

    def change(folder: Path) -> None:
        (folder / GRAPH).write_bytes(model.SerializeToString())
        (folder / "onnx" / "text_encoder.onnx.data").write_bytes(bytes(64))

    return change


def truncated(folder: Path) -> None:
    content = (folder / GRAPH).read_bytes()
    (folder / GRAPH).write_bytes(content[: len(content) * 2 // 3])


def a_pickle(folder: Path) -> None:
    (folder / GRAPH).write_bytes(pickle.dumps(Canary(folder.parent / "ran")))


def other_inputs(folder: Path) -> None:
    shutil.copyfile(folder / "onnx" / "image_encoder.onnx", folder / GRAPH)


def other_dimension(folder: Path) -> None:
    """The manifest says 8 and the graph gives 8, but it was told another size for the cache of the decoder."""
    shutil.copyfile(folder / "onnx" / "cross_attention.onnx", folder / "onnx" / "decoder.onnx")


def nested(folder: Path) -> None:
    inner = b""
    for _ in range(300):
        for field in (6, 5, 1):
            inner = bytes([field << 3 | 2]) + _varint(len(inner)) + inner
    (folder / GRAPH).write_bytes(bytes([7 << 3 | 2]) + _varint(len(inner)) + inner)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


HUGE = numpy_helper.from_array(np.array([1 << 40], np.int64), "weight")
SAVED = helper.make_node("EPContext", [], ["found"], domain="com.microsoft", ep_cache_context="/etc/hostname")
BOTH = onnx.ModelProto()
BOTH.MergeFrom(graph(USE, [tensor([4], location="text_encoder.onnx.data", length=16)]))
BOTH.graph.initializer[-1].external_data.add(key="location", value="/etc/hostname")

HOSTILE: dict[str, tuple[Change, str]] = {
    "weights_outside_the_folder": (
        put(graph(USE, [tensor([4], location="../../secret")])),
        "not a file of this bundle",
    ),
    "weights_by_absolute_path": (put(graph(USE, [tensor([4], location="/etc/hostname")])), "not a file of this bundle"),
    "weights_in_another_file_of_the_folder": (
        put(graph(USE, [tensor([4], location="../config.json")])),
        "not a file of this bundle",
    ),
    "offset_beyond_the_file": (
        with_data(graph(USE, [tensor([4], location="text_encoder.onnx.data", offset=60, length=16)])),
        "reads bytes 60 to 76 of",
    ),
    "length_beyond_the_file": (
        with_data(graph(USE, [tensor([4], location="text_encoder.onnx.data", length=1 << 40)])),
        "which holds 64",
    ),
    "an_offset_that_is_no_number": (
        with_data(graph(USE, [tensor([4], location="text_encoder.onnx.data", offset="0x10")])),
        "no offset or length",
    ),
    "two_locations": (with_data(BOTH), "location twice"),
    "truncated": (truncated, "not a well-formed ONNX file"),
    "nested_graphs": (nested, "nested too deeply"),
    "a_pickle": (a_pickle, "not a well-formed ONNX file|cannot open"),
    "dimensions_of_exabytes": (put(graph(USE, [tensor([1 << 31, 1 << 31])])), "cannot open"),
    "dimensions_below_zero": (put(graph(USE, [tensor([-4], bytes(16))])), "cannot open"),
    "fewer_bytes_than_the_shape": (put(graph(USE, [tensor([4], bytes(8))])), "cannot open"),
    "terabytes_at_run_time": (
        put(graph([helper.make_node("ConstantOfShape", ["weight"], ["found"])], [HUGE])),
        "cannot open|cannot run",
    ),
    "an_operator_of_a_foreign_library": (
        put(graph([helper.make_node("Run", ["input_ids"], ["found"], domain="evil.ops")], domain="evil.ops")),
        "cannot open",
    ),
    "a_compiled_program": (put(graph([SAVED], domain="com.microsoft")), "EPContext"),
    "an_opset_of_the_future": (put(graph(USE, [tensor([4], bytes(16))], opset=9999)), "cannot open"),
    "an_unknown_operator": (put(graph([helper.make_node("System", ["input_ids"], ["found"])])), "cannot open"),
    "a_loop_of_nodes": (
        put(graph([helper.make_node("Neg", ["x"], ["found"]), helper.make_node("Neg", ["found"], ["x"])])),
        "cannot open",
    ),
    "other_inputs": (other_inputs, "text_encoder.onnx takes .'pixel_values'."),
    "another_decoder": (other_dimension, "decoder.onnx takes"),
}


@pytest.fixture(scope="module")
def outcomes(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Every hostile bundle, opened in one process."""
    home = tmp_path_factory.mktemp("hostile")
    for name, (change, _) in HOSTILE.items():
        shutil.copytree(tiny_bundle, home / name)
        change(home / name)
        write_manifest(home / name, read_manifest(tiny_bundle))
    return open_in_process([home / name for name in HOSTILE])


def open_in_process(folders: list[Path]) -> dict[str, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died with {done.returncode} after {lines[-1:]}: {done.stderr[-2000:]}"
    return {line["name"]: line for line in lines}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_clear_error(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    """Of this package, naming the file, and the process lives on."""
    found = outcomes[name]
    assert found.get("error") == "BundleError", found
    assert re.search(HOSTILE[name][1], found["message"]), found
    assert ".onnx" in found["message"]


def test_nothing_ran(outcomes: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert not list(tmp_path_factory.getbasetemp().glob("hostile*/ran"))
    assert len(outcomes) == len(HOSTILE)


def test_without_the_hostile_part_it_answers(tiny_bundle: Path, tmp_path: Path) -> None:
    """What fails above fails for its own reason: the untouched bundle answers, and the made-up graph does too."""
    shutil.copytree(tiny_bundle, tmp_path / "made-up")
    put(graph(USE, [tensor([4], bytes(16))]))(tmp_path / "made-up")
    write_manifest(tmp_path / "made-up", read_manifest(tiny_bundle))
    for found in open_in_process([tiny_bundle, tmp_path / "made-up"]).values():
        assert "answered" in found, found


def test_links_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    """Right content today, another file tomorrow; as a graph, as its weights, and as the folder."""
    from vlkd_hub.errors import BundleError
    from vlkd_hub.runtime import OnnxStudent

    for number, name in enumerate((GRAPH, "tokenizer.json", "onnx")):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_bundle, folder)
        (folder / name).rename(tmp_path / f"elsewhere-{number}")
        (folder / name).symlink_to(tmp_path / f"elsewhere-{number}")
        for verify in (True, False):
            with pytest.raises(BundleError, match="reached by a link"):
                OnnxStudent.from_pretrained(folder, verify=verify)
