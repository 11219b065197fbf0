"""Follow the write-ahead log of a generation: what was there at the start, and what a writer appends since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.wal import Record, Segment, list_segments, parse

__all__ = ["LogReader", "LogRewrittenError"]


class LogRewrittenError(Exception):
    """A writer replaced the segment that was being read: read the log again from its start."""


@dataclass
class _Place:
    segment: Segment
    inode: int
    offset: int


class LogReader:
    """The changes after a generation, in order.

    Args:
        directory: the index folder.
        epoch: of the generation.
        sequence: the last change that the generation holds.
        fingerprint: of the index.
        dim: D.
    """

    def __init__(self, directory: Path, epoch: int, sequence: int, fingerprint: str, dim: int) -> None:
        self._directory = directory
        self._epoch = epoch
        self._after = sequence
        self._fingerprint = fingerprint
        self._dim = dim
        self._place: _Place | None = None
        self._next = 0

    @property
    def sequence(self) -> int:
        """The last change that was read."""
        return max(self._after, self._next - 1)

    def poll(self) -> list[Record]:
        """The changes since the last call.

        Raises:
            IndexCorruptError: confirmed changes are missing or damaged.
            LogRewrittenError: start again with a new reader.
        """
        if self._place is None and not self._start():
            return []
        found: list[Record] = []
        while True:
            found += self._read_on()
            following = self._following()
            if following is None:
                return [record for record in found if record.sequence > self._after]
            found += self._read_on()  # the writer may have appended before it began the next segment
            if following.first != self._next:
                raise IndexCorruptError(
                    f"The log jumps from change {self._next - 1} to {following.first} in {following.path.name}: "
                    f"confirmed changes are missing."
                )
            self._place = _Place(following, following.path.stat().st_ino, 0)

    def _start(self) -> bool:
        segments = list_segments(self._directory, self._epoch)
        if not segments:
            return False
        starts = [segment for segment in segments if segment.first <= self._after + 1]
        if not starts:
            raise IndexCorruptError(
                f"The log starts at change {segments[0].first} and the generation ends at {self._after}: "
                f"confirmed changes are missing."
            )
        try:
            fsio.regular_size(starts[-1].path)
            self._place = _Place(starts[-1], starts[-1].path.stat().st_ino, 0)
        except FileNotFoundError:
            raise LogRewrittenError from None
        self._next = starts[-1].first
        return True

    def _following(self) -> Segment | None:
        assert self._place is not None  # set by _start
        later = (s for s in list_segments(self._directory, self._epoch) if s.first > self._place.segment.first)
        return next(later, None)

    def _read_on(self) -> list[Record]:
        place = self._place
        assert place is not None  # set by _start
        try:
            fsio.regular_size(place.segment.path)
            if place.segment.path.lstat().st_ino != place.inode:
                raise LogRewrittenError
            with place.segment.path.open("rb") as handle:
                handle.seek(place.offset)
                content = handle.read()
        except FileNotFoundError:
            raise LogRewrittenError from None
        if not content:
            return []
        records, used = parse(content, place.segment, self._fingerprint, self._dim, at_head=place.offset == 0)
        for record in records:
            if record.sequence != self._next:
                raise IndexCorruptError(
                    f"{place.segment.path} holds change {record.sequence} where {self._next} was expected."
                )
            self._next += 1
        place.offset += used
        return records
