"""Weights are safetensors and nothing else, and each file is checked from its header before any library maps it.

The format: eight bytes with the header's length, little-endian; a JSON object with the type, the shape and the place
of every tensor; then the tensors, without a gap.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from vlkd_hub.errors import WeightsError

__all__ = ["PICKLES", "check_safetensors", "check_weights"]

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.npy", "*.npz", "*.h5", "*.msgpack")
"""Files that may hold a pickle, or whose readers run code: never read, sent or fetched as weights."""

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format's own reader."""
MAX_DIMENSIONS = 64
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one number of each type."""
ADVICE = "Do not use this file; fetch the model again from where you trust it, or save it again."


def check_weights(folder: str | Path) -> list[Path]:
    """Check every weight file of a saved model.

    Args:
        folder: of the model; files directly in it are looked at.

    Returns:
        The safetensors files.

    Raises:
        WeightsError: there is none, one of them is malformed, or the index names a file that is not there.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        found = f"; {', '.join(pickles)} may hold a pickle, which runs code, and is not read" if pickles else ""
        raise WeightsError(f"{folder} holds no weights in safetensors{found}. Save the model with save_pretrained().")
    for path in files:
        check_safetensors(path)
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index, {path.name for path in files})
    return files


def check_safetensors(path: str | Path) -> dict[str, Any]:
    """Read the header of a safetensors file and hold every number in it against the file.

    Returns:
        Name -> ``{"dtype", "shape", "data_offsets"}`` of each tensor.

    Raises:
        WeightsError: the file is not well-formed. The message names it.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > MAX_HEADER_BYTES or 8 + length > size:
                raise ValueError(f"a header of {length} bytes cannot be in a file of {size}")
            header = _parse(stream.read(length))
        header.pop("__metadata__", None)
        _check_tensors(header, size - 8 - length)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not a well-formed safetensors file: {error}. {ADVICE}") from error
    return header


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise ValueError("its header does not begin with '{'")
    header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    notes = header.get("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise ValueError("its __metadata__ is not an object of texts")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"its header holds {name}")


def _check_tensors(header: dict[str, Any], size: int) -> None:
    """Each tensor has a known type and as many bytes as its shape needs; together they fill the file once."""
    places = []
    for name, tensor in header.items():
        if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"the entry of {name!r} is not dtype, shape and data_offsets")
        shape, offsets = _counts(tensor["shape"], name), _counts(tensor["data_offsets"], name)
        if not isinstance(tensor["dtype"], str) or tensor["dtype"] not in BITS:
            raise ValueError(f"{name!r} has the unknown type {tensor['dtype']!r}")
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"{name!r} has {len(shape)} dimensions")
        bits = BITS[tensor["dtype"]] * math.prod(shape)
        if len(offsets) != 2 or 8 * (offsets[1] - offsets[0]) != bits:
            raise ValueError(f"{name!r} of shape {str(shape)[:80]} does not fit its offsets {str(offsets)[:80]}")
        places.append((offsets[0], offsets[1], name))
    position = 0
    for start, end, name in sorted(places):
        if start != position:
            raise ValueError(f"{name!r} begins at byte {start} and the tensor before it ends at {position}")
        position = end
    if position != size:
        raise ValueError(f"its tensors end at byte {position} and the file at {size}")


def _counts(value: Any, name: str) -> list[int]:
    if not isinstance(value, list) or any(type(item) is not int or item < 0 for item in value):
        raise ValueError(f"the shape or the offsets of {name!r} are not whole numbers")
    return value


def _check_index(path: Path, present: set[str]) -> None:
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        absent = sorted({str(name) for name in named} - present)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is no index of weights ({type(error).__name__}: {error}). {ADVICE}") from error
    if absent:
        raise WeightsError(f"{path} names {', '.join(absent)[:200]}, which {path.parent} does not hold. {ADVICE}")
