"""Tables that several graphs of a bundle hold alike, such as word embeddings, are kept in memory once.

A graph looks up rows of such a table as it is, so one copy can serve all. Weights of other operators are left alone:
onnxruntime packs them in its own way, a copy each, and gives the original back.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.runtime.wire import fields, numbers, opened

__all__ = ["shared_tables"]

# Numbers of onnx.proto's fields.
MODEL_GRAPH, GRAPH_NODE, GRAPH_TENSOR, NODE_INPUT, NODE_OP_TYPE = 7, 1, 5, 1, 4
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW_DATA, TENSOR_EXTERNAL_DATA = 1, 2, 8, 9, 13
TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 10: np.float16}
"""Number in onnx.proto -> numpy."""
LOOK_UP = b"Gather"
LEAST_BYTES = 1 << 20
"""Smaller tables are not worth it."""


@dataclass(frozen=True)
class _Table:
    path: Path
    name: str
    type_number: int
    shape: tuple[int, ...]
    start: int
    """Byte of the file at which its values begin."""

    def read(self) -> NDArray[Any]:
        """The values, in memory of their own."""
        dtype = TYPES[self.type_number]
        return np.fromfile(self.path, dtype, prod(self.shape), offset=self.start).reshape(self.shape)


def shared_tables(paths: Iterable[Path], least_bytes: int = LEAST_BYTES) -> dict[Path, dict[str, NDArray[Any]]]:
    """Find tables of equal type, shape and values in several graphs.

    Args:
        paths: the ``.onnx`` files of one bundle.
        least_bytes: smallest table that is shared.

    Returns:
        For each path, name of the initializer -> its values; the same array for every graph that holds it.

    Raises:
        BundleError: a file is not well-formed protobuf.
    """
    alike: dict[tuple[int, tuple[int, ...]], list[_Table]] = defaultdict(list)
    for path in paths:
        with opened(path) as data:
            for table in _tables(path, data, least_bytes):
                alike[table.type_number, table.shape].append(table)
    found: dict[Path, dict[str, NDArray[Any]]] = defaultdict(dict)
    for tables in alike.values():
        if len({table.path for table in tables}) > 1:
            first, *others = tables
            values = first.read()
            equal = [table for table in others if np.array_equal(table.read(), values)]
            for table in (first, *equal) if equal else ():
                found[table.path][table.name] = values
    return dict(found)


def _tables(path: Path, data: mmap.mmap, least_bytes: int) -> Iterator[_Table]:
    """The initializers of a graph, stored inside the file, whose rows a node looks up."""
    looked_up: set[str] = set()
    tensors: list[tuple[int, int]] = []
    for number, low, high in fields(data, 0, len(data)):
        for inner, start, end in fields(data, low, high) if number == MODEL_GRAPH else ():
            if inner == GRAPH_TENSOR and end - start >= least_bytes:
                tensors.append((start, end))
            elif inner == GRAPH_NODE:
                looked_up |= _looked_up(data, start, end)
    for start, end in tensors:
        place = {number: (low, high) for number, low, high in fields(data, start, end)}
        (type_number,), shape = numbers(data, start, end, TENSOR_TYPE), tuple(numbers(data, start, end, TENSOR_DIMS))
        name = data[slice(*place.get(TENSOR_NAME, (0, 0)))].decode()
        low, high = place.get(TENSOR_RAW_DATA, (0, 0))
        inside = TENSOR_EXTERNAL_DATA not in place and high - low >= least_bytes
        if inside and name in looked_up and type_number in TYPES:
            if high - low == prod(shape) * np.dtype(TYPES[type_number]).itemsize:
                yield _Table(path, name, type_number, shape, low)


def _looked_up(data: mmap.mmap, start: int, end: int) -> set[str]:
    """What a node looks rows up in: the first input of a Gather."""
    inputs, operator = [], b""
    for number, low, high in fields(data, start, end):
        if number == NODE_INPUT:
            inputs.append(data[low:high].decode())
        elif number == NODE_OP_TYPE:
            operator = data[low:high]
    return set(inputs[:1]) if operator == LOOK_UP else set()
