"""Append to the write-ahead log. A change is on the disk when :meth:`LogWriter.append` returns."""

from __future__ import annotations

from pathlib import Path

from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexWriteError
from vlkd_serving.index.wal import (
    MAX_RECORD_BYTES,
    Record,
    Segment,
    encode,
    encode_head,
    list_segments,
    parse,
    segment_path,
)

__all__ = ["MAX_SEGMENT_BYTES", "LogWriter"]

MAX_SEGMENT_BYTES = 4 << 30


class LogWriter:
    """The end of the log; only the holder of the index's lock may have one.

    On opening, the last segment is written anew: that drops a torn tail, and it makes sure that what can be read is on
    the disk even if the system failed to write it before (after a failed fsync, Linux counts the pages as clean).

    Args:
        directory: the index folder.
        epoch: of the committed generation.
        sequence: the last change that the generation holds.
        fingerprint: of the index.
        dim: D.

    Raises:
        OSError: the disk refuses.
    """

    def __init__(self, directory: Path, epoch: int, sequence: int, fingerprint: str, dim: int) -> None:
        self._directory = directory
        self._epoch = epoch
        self._fingerprint = fingerprint
        self._dim = dim
        self._broken = False
        segments = list_segments(directory, epoch)
        if segments:
            self._segment = segments[-1]
            content = fsio.read_regular(self._segment.path, MAX_SEGMENT_BYTES)
            records, used = parse(content, self._segment, fingerprint, dim, at_head=True)
            self.sequence = records[-1].sequence if records else self._segment.first - 1
            self._write_anew(content[:used] if used else self._head(self._segment.first))
        else:
            self.sequence = sequence
            self._segment = Segment(epoch, sequence + 1, segment_path(directory, epoch, sequence + 1))
            self._write_anew(self._head(sequence + 1))
        self._handle = fsio.DurableFile(self._segment.path, append=True)

    def append(self, record: Record) -> None:
        """Write one change and force it to the disk.

        Raises:
            IndexWriteError: it may or may not be on the disk; open the log again before the next change.
        """
        if self._broken:
            raise IndexWriteError("The log of the index failed before; open the index again to write to it.")
        content = encode(record)
        if len(content) > MAX_RECORD_BYTES:
            raise IndexWriteError(f"A change may hold {MAX_RECORD_BYTES >> 20} MiB, this one is larger: split it.")
        try:
            self._handle.write(content)
            self._handle.sync()
        except BaseException:
            self._broken = True
            raise
        self.sequence = record.sequence

    def rotate(self) -> None:
        """Begin a new segment, so that the ones before can go once a generation holds what is in them.

        Raises:
            OSError: the disk refuses; the present segment stays in use.
        """
        first = self.sequence + 1
        if first == self._segment.first:
            return
        before = self._segment
        self._segment = Segment(self._epoch, first, segment_path(self._directory, self._epoch, first))
        try:
            self._write_anew(self._head(first))
            handle = fsio.DurableFile(self._segment.path, append=True)
        except BaseException:
            self._segment, self._broken = before, True
            raise
        self._handle.close()
        self._handle = handle

    def close(self) -> None:
        """Close the segment; every change in it is on the disk already."""
        self._handle.close()

    def _head(self, first: int) -> bytes:
        return encode_head(self._epoch, first, self._fingerprint, self._dim)

    def _write_anew(self, content: bytes) -> None:
        temporary = self._segment.path.with_suffix(".tmp")
        fsio.write_bytes(temporary, content)
        fsio.replace(temporary, self._segment.path)
