"""The wire format of an ONNX file, read in place: no part of it is copied or believed before it is looked at."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlkd_hub.errors import BundleError

__all__ = ["fields", "numbers", "opened"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@contextmanager
def opened(path: str | Path) -> Iterator[mmap.mmap]:
    """The bytes of an ONNX file, for a walk over them.

    Raises:
        BundleError: the file is empty, or the walk finds that it is not well-formed protobuf.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise BundleError(f"{path} is empty. Export the student again.")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            yield data
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"{path} is not a well-formed ONNX file ({error}). Export the student again.") from error


def fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each length-delimited field; other fields are stepped over.

    Raises:
        ValueError: the bytes are no message. IndexError: they end within a number.
    """
    for number, wire, low, high in _every(data, start, end):
        if wire == BYTES:
            yield number, low, high


def numbers(data: mmap.mmap, start: int, end: int, field: int) -> list[int]:
    """Every value of a field of whole numbers, packed or not.

    Raises:
        ValueError, IndexError: as :func:`fields`.
    """
    found = []
    for number, wire, low, high in _every(data, start, end):
        while number == field and wire in (VARINT, BYTES) and low < high:
            value, low = _varint(data, low)
            found.append(value)
    return found


def _every(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of the value of each field."""
    position = start
    while position < end:
        key, position = _varint(data, position)
        wire, low = key & 7, position
        if wire == VARINT:
            _, position = _varint(data, position)
        elif wire in (FIXED64, FIXED32):
            position += 8 if wire == FIXED64 else 4
        elif wire == BYTES:
            length, low = _varint(data, position)
            position = low + length
            if position > end:
                raise ValueError("a field is longer than what holds it")
        else:
            raise ValueError(f"unknown wire type {wire}")
        yield key >> 3, wire, low, position
    if position != end:
        raise ValueError("a field is longer than what holds it")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is longer than ten bytes")
