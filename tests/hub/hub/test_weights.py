"""Corrupt safetensors are refused from their header, in words that name the file; so are pickles."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from vlkd_hub.errors import WeightsError
from vlkd_hub.hub.weights import check_safetensors, check_weights

from .small import good_weights, safetensors

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
DATA = bytes(16)


def doubled(raw: bytes) -> bytes:
    """A header with one name twice; two readers may take different ones."""
    entry = json.dumps(A)
    header = f'{{"a": {entry}, "a": {entry}}}'.encode()
    return struct.pack("<Q", len(header)) + header + raw


CORRUPT = {
    "empty": (b"", "header of 0 bytes cannot be in a file of 0"),
    "seven bytes": (b"\x08" + bytes(6), "cannot be in a file of 7"),
    "header longer than the file": (struct.pack("<Q", 1000) + b"{}", "header of 1000 bytes"),
    "header of exabytes": (struct.pack("<Q", 1 << 62) + b"{}", "header of 4611686018427387904 bytes"),
    "not JSON": (struct.pack("<Q", 3) + b"{a}", "Expecting"),
    "not an object": (struct.pack("<Q", 2) + b"[]", "does not begin with"),
    "not UTF-8": (struct.pack("<Q", 3) + b"{\xff}", "utf-8"),
    "nested deeply": (struct.pack("<Q", 400_000) + b'{"a":' + b"[" * 399_995, "recursion|Expecting|too deep"),
    "a name twice": (doubled(DATA), "stands twice"),
    "truncated": (safetensors({"a": A}, DATA[:-1]), "end at byte 16 and the file at 15"),
    "bytes at the end": (safetensors({"a": A}, DATA + b"PK"), "end at byte 16 and the file at 18"),
    "overlap": (
        safetensors({"a": A, "b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]}}, bytes(20)),
        "'b' begins at byte 12 and the tensor before it ends at 16",
    ),
    "gap": (
        safetensors({"a": A, "b": {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}}, bytes(24)),
        "'b' begins at byte 20",
    ),
    "unknown type": (safetensors({"a": A | {"dtype": "PICKLE"}}, DATA), "unknown type 'PICKLE'"),
    "type that is no text": (safetensors({"a": A | {"dtype": ["F32"]}}, DATA), "unknown type"),
    "shape too large": (safetensors({"a": A | {"shape": [2**62, 2**62]}}, DATA), "does not fit its offsets"),
    "shape below zero": (safetensors({"a": A | {"shape": [-2, -2]}}, DATA), "not whole numbers"),
    "shape of fractions": (safetensors({"a": A | {"shape": [2.0, 2]}}, DATA), "not whole numbers"),
    "shape of truths": (safetensors({"a": A | {"shape": [True, 4]}}, DATA), "not whole numbers"),
    "a thousand dimensions": (safetensors({"a": A | {"shape": [1] * 1000}}, DATA), "1000 dimensions"),
    "backwards": (safetensors({"a": A | {"data_offsets": [16, 0]}}, DATA), "does not fit"),
    "three offsets": (safetensors({"a": A | {"data_offsets": [0, 8, 16]}}, DATA), "does not fit"),
    "offsets outside": (safetensors({"a": A | {"data_offsets": [1 << 40, (1 << 40) + 16]}}, DATA), "begins at byte"),
    "an unknown field": (safetensors({"a": A | {"reader": "os.system"}}, DATA), "is not dtype, shape and data_offsets"),
    "an entry that is no object": (safetensors({"a": [0, 16]}, DATA), "is not dtype, shape and data_offsets"),
    "notes that are no texts": (safetensors({"__metadata__": {"x": [1]}, "a": A}, DATA), "__metadata__"),
    "not a number": (safetensors({"a": A | {"shape": [float("nan")]}}, DATA), "holds NaN"),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_file_is_refused(name: str, tmp_path: Path) -> None:
    """Before any library maps it: one error, and it says which file."""
    content, message = CORRUPT[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=f"(?s)model.safetensors is not a well-formed safetensors file: .*({message})"
    ):
        check_safetensors(path)


def test_a_good_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(good_weights())
    assert {name: entry["shape"] for name, entry in check_safetensors(path).items()} == {"a": [2, 2], "b": [2]}
    path.write_bytes(safetensors({}))
    assert check_safetensors(path) == {}


def test_what_the_library_writes_passes(tmp_path: Path) -> None:
    """Every type that numpy and safetensors share, an empty tensor and a scalar among them."""
    from safetensors.numpy import save_file

    kinds = ["bool", "int8", "uint8", "int16", "uint16", "float16", "int32", "uint32", "float32", "int64", "uint64"]
    tensors = {kind: np.ones((2, 3), dtype=kind) for kind in [*kinds, "float64"]}
    save_file(tensors | {"empty": np.ones((0, 4), "float32"), "scalar": np.array(1.0)}, tmp_path / "a.safetensors")
    assert check_safetensors(tmp_path / "a.safetensors").keys() == {*tensors, "empty", "scalar"}


def test_what_this_refuses_the_library_refuses_too_or_ignores(tmp_path: Path) -> None:
    """Random damage to a good header: nothing that the library refuses passes here."""
    from safetensors import SafetensorError, safe_open

    good, path, random = good_weights(), tmp_path / "model.safetensors", np.random.RandomState(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(good)
        broken[random.randint(len(good) - 20)] ^= 1 << random.randint(8)
        path.write_bytes(broken)
        try:
            with safe_open(path, "numpy") as opened:
                list(opened.keys())
        except SafetensorError:
            refused += 1
            with pytest.raises(WeightsError):
                check_safetensors(path)
    assert refused > 100


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl", "weights.npy"])
def test_a_pickle_is_not_a_weight_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match=f"no weights in safetensors; {name} may hold a pickle, which runs code"):
        check_weights(tmp_path)


def test_a_pickle_beside_safetensors_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(good_weights())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert [path.name for path in check_weights(tmp_path)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "model-2.safetensors"}}', "names model-2.safetensors, which"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "names ../model.safetensors, which"),
        ('{"weight_map": []}', "is no index of weights"),
        ("[" * 100_000, "is no index of weights"),
        ("", "is no index of weights"),
    ],
)
def test_an_index_names_files_of_its_folder(index: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(good_weights())
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=message):
        check_weights(tmp_path)
