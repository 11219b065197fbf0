"""Which other files an ONNX file points at, read from its bytes alone, so that a hostile one is never opened.

onnxruntime opens the external weight files that a model names. Before a session is made, every such name must be one
of the bundle's own files. Only the parts of the protobuf that can hold tensors are walked; weights are skipped over.
"""

from __future__ import annotations

import mmap
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime.wire import fields, opened

__all__ = ["ExternalData", "check_external_data", "external_data"]

# Numbers of onnx.proto's fields: message -> field -> message inside it.
CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
TENSOR_EXTERNAL_DATA = 13
NODE_OP_TYPE = 4
COMPILED = b"EPContext"
"""Operator whose attribute is a program for some hardware, or the path of one, outside all checks here."""
ENTRY_KEY, ENTRY_VALUE = 1, 2
MAX_DEPTH = 64


@dataclass(frozen=True)
class ExternalData:
    """One reference to a weight file."""

    location: str
    offset: int
    """Bytes from the start of the file."""
    length: int | None
    """Bytes; None means up to the end."""


def external_data(path: str | Path) -> list[ExternalData]:
    """List the external weights that the ONNX file at ``path`` names.

    Raises:
        BundleError: the file is not well-formed protobuf.
    """
    with opened(path) as data:
        return list(_walk(data, 0, len(data), "model", 0))


def check_external_data(path: str | Path, allowed: set[str]) -> None:
    """Refuse an ONNX file that names a weight file it may not open.

    Args:
        path: the ONNX file.
        allowed: names, relative to its folder, of files that belong to the bundle and are plain files.

    Raises:
        BundleError: a name is not in ``allowed``, or an offset or length lies outside its file.
    """
    path = Path(path)
    for reference in external_data(path):
        if reference.location not in allowed:
            raise BundleError(
                f"{path} keeps weights in {reference.location!r}, which is not a file of this bundle. "
                "Do not use this bundle; export the student again."
            )
        size = _size(path.parent / reference.location)
        end = reference.offset + (reference.length or 0)
        if reference.offset < 0 or (reference.length or 0) < 0 or end > size:
            raise BundleError(
                f"{path} reads bytes {reference.offset} to {end} of {reference.location!r}, which holds {size}. "
                "Export the student again."
            )


def _size(path: Path) -> int:
    """Bytes of a plain file.

    Raises:
        BundleError: it is absent, a link, a pipe or a folder.
    """
    try:
        found = path.lstat()
    except (OSError, ValueError) as error:
        raise BundleError(f"The weight file {path} cannot be looked at ({error}). Export the student again.") from error
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"The weight file {path} is not a plain file. Do not use this bundle; export again.")
    return found.st_size


def _number(text: str) -> int:
    """An offset or a length: digits of ASCII, as few as 64 bits need. Python's own int() takes far more."""
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise ValueError(f"{text[:40]!r} is no offset or length")
    return int(text)


def _walk(data: mmap.mmap, start: int, end: int, kind: str, depth: int) -> Iterator[ExternalData]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    entries: dict[str, str] = {}
    for number, low, high in fields(data, start, end):
        if kind == "tensor" and number == TENSOR_EXTERNAL_DATA:
            texts = {field: data[a:b].decode() for field, a, b in fields(data, low, high)}
            name = texts.get(ENTRY_KEY, "")
            if name in entries:
                raise ValueError(f"a tensor names its {name} twice")
            entries[name] = texts.get(ENTRY_VALUE, "")
        elif kind == "node" and number == NODE_OP_TYPE and data[low:high] == COMPILED:
            raise ValueError("it holds a compiled program, an EPContext node, which may name any file")
        elif number in CHILDREN.get(kind, {}):
            yield from _walk(data, low, high, CHILDREN[kind][number], depth + 1)
    if entries:
        length = entries.get("length")
        yield ExternalData(
            entries.get("location", ""),
            _number(entries.get("offset", "0")),
            None if length is None else _number(length),
        )
