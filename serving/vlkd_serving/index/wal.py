"""The write-ahead log: every change between two generations, framed by length and CRC, in numbered segments.

A segment is ``wal-<epoch>-<first>.log``. Each record is ``VWL2``, the payload's length and its CRC-32 (uint32,
little-endian), then the payload: the length of a JSON header, the header, fp32 vectors. The first record says what the
segment belongs to. A torn tail is ignored; a damaged record before a good one is an error, since what follows was
acknowledged.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.items import Item, metadata_json
from vlkd_serving.index.vectors import FloatArray

__all__ = ["MAX_RECORD_BYTES", "Record", "Segment", "encode", "encode_head", "list_segments", "parse", "segment_path"]

_MAGIC = b"VWL2"
_FRAME = struct.Struct("<4sII")
_NUMBER = struct.Struct("<I")
_NAME = re.compile(r"wal-(\d{6,})-(\d{12,})\.log")
MAX_RECORD_BYTES = 256 << 20


@dataclass(frozen=True)
class Record:
    """One change, made as a whole or not at all.

    Args:
        sequence: its number; one more than that of the change before.
        put: items added, or replaced by id.
        vectors: (len(put), D), L2-normalised.
        removed: ids taken out.
    """

    sequence: int
    put: tuple[Item, ...]
    vectors: FloatArray
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Segment:
    """A file of the log: the epoch it belongs to and the sequence of its first record."""

    epoch: int
    first: int
    path: Path


def segment_path(directory: Path, epoch: int, first: int) -> Path:
    """Where a segment lies."""
    return directory / f"wal-{epoch:06d}-{first:012d}.log"


def list_segments(directory: Path, epoch: int | None = None) -> list[Segment]:
    """The segments of one epoch, or of all, in order."""
    names = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    found = [Segment(int(match[1]), int(match[2]), path) for match, path in names if match]
    return sorted((s for s in found if epoch in (None, s.epoch)), key=lambda s: (s.epoch, s.first))


def encode_head(epoch: int, first: int, fingerprint: str, dim: int) -> bytes:
    """The first record of a segment."""
    return _framed({"epoch": epoch, "first": first, "fingerprint": fingerprint, "dim": dim}, b"")


def encode(record: Record) -> bytes:
    """A change as bytes."""
    put = [[item.id, item.path, metadata_json(item)] for item in record.put]
    header = {"sequence": record.sequence, "put": put, "removed": list(record.removed)}
    return _framed(header, np.ascontiguousarray(record.vectors, dtype="<f4").tobytes())


def parse(content: bytes, segment: Segment, fingerprint: str, dim: int, at_head: bool) -> tuple[list[Record], int]:
    """Read the whole records of (a part of) a segment.

    Args:
        content: bytes from a record's start on.
        segment: where they come from.
        fingerprint: of the index; the head must name it.
        dim: D.
        at_head: whether ``content`` starts at the head.

    Returns:
        The records, and the number of bytes that they and the head take.

    Raises:
        IndexCorruptError: a damaged record before a good one, or a log of something else.
    """
    records: list[Record] = []
    position = 0
    while (payload := _payload(content, position)) is not None:
        header, blob = _split(payload, segment.path)
        if at_head and position == 0:
            expected = {"epoch": segment.epoch, "first": segment.first, "fingerprint": fingerprint, "dim": dim}
            if header != expected:
                raise IndexCorruptError(f"{segment.path} is the log of another index or place: {header}.")
        else:
            records.append(_record(header, blob, dim, segment.path))
        position += _FRAME.size + len(payload)
    later = content.find(_MAGIC, position + 1)
    while later >= 0:
        if _payload(content, later) is not None:
            raise IndexCorruptError(f"{segment.path} is damaged before byte {later}; changes after it were confirmed.")
        later = content.find(_MAGIC, later + 1)
    return records, position


def _framed(header: dict[str, Any], blob: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    payload = _NUMBER.pack(len(text)) + text + blob
    return _FRAME.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload


def _payload(content: bytes, position: int) -> bytes | None:
    """The payload of the record at a position, or None where no whole, undamaged one is."""
    if position + _FRAME.size > len(content):
        return None
    magic, length, crc = _FRAME.unpack_from(content, position)
    start = position + _FRAME.size
    if magic != _MAGIC or length > MAX_RECORD_BYTES or start + length > len(content):
        return None
    payload = content[start : start + length]
    return payload if zlib.crc32(payload) == crc else None


def _split(payload: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        (length,) = _NUMBER.unpack_from(payload)
        header = json.loads(payload[_NUMBER.size : _NUMBER.size + length])
    except (struct.error, ValueError, RecursionError):
        raise IndexCorruptError(f"{path} holds a record that is not one of an index.") from None
    return header, payload[_NUMBER.size + length :]


def _record(header: dict[str, Any], blob: bytes, dim: int, path: Path) -> Record:
    try:
        put = tuple(Item(id=i, path=p, metadata=json.loads(text)) for i, p, text in header["put"])
        vectors = np.frombuffer(blob, dtype="<f4").reshape(len(put), dim)
        removed = tuple(str(item_id) for item_id in header["removed"])
        return Record(int(header["sequence"]), put, vectors, removed)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IndexCorruptError(f"{path} holds a record that is not one of this index.") from None
