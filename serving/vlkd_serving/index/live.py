"""An index that follows its writer: changes of the log and new generations are taken in, then shown in one step."""

from __future__ import annotations

import threading
from pathlib import Path

from vlkd_hub.errors import VlkdError
from vlkd_serving.index.generation import Generation
from vlkd_serving.index.reader import IndexReader, OpenIndex, manifest_stamp
from vlkd_serving.index.spaces import QuerySpace
from vlkd_serving.index.wal_reader import LogRewrittenError

__all__ = ["LiveIndex"]


class LiveIndex:
    """Holds the present state; searches read :attr:`current` once and keep that reader until they end.

    Args:
        directory: the index folder.
        space: embedding space of the model that queries it; None skips the comparison.
        in_memory: read the ids, and the vectors that candidates are scored with, instead of mapping their files: faster
            searches for memory that other processes cannot share; while a new generation takes over, for both.

    Raises:
        BundleError: as :meth:`IndexReader.open`.
    """

    def __init__(self, directory: str | Path, space: str | QuerySpace | None, *, in_memory: bool = False) -> None:
        self.directory = Path(directory)
        self.in_memory = in_memory
        self._space = space
        self._lock = threading.Lock()
        self._stamp = manifest_stamp(self.directory)
        self._opened = OpenIndex.open(self.directory, space, in_memory=in_memory)
        self.current = IndexReader.of(self._opened)
        self.problem: str | None = None

    @property
    def degraded(self) -> str | None:
        """Why the newest committed state is not the one served, or None."""
        return self.problem or self.current.degraded

    def refresh(self, ready: Generation | None = None) -> bool:
        """Take in what a writer committed since the last look: changes in the log, or another generation.

        A generation or log that cannot be read leaves the present state in place and is told by :attr:`degraded`.

        Args:
            ready: a generation that the caller has opened, to be taken where it is the committed one.

        Returns:
            Whether another state is served now.
        """
        with self._lock:
            stamp = manifest_stamp(self.directory)
            try:
                if stamp != self._stamp:
                    self._stamp = stamp
                    return self._reopen(ready)
                return self._follow()
            except LogRewrittenError:
                self._stamp = None  # a writer collected what was being read: look again next time
                return False
            except (VlkdError, OSError) as error:
                if not isinstance(error, VlkdError):
                    self._stamp = None  # the system failed, not the index
                self.problem = f"{error} The state of change {self.current.sequence} stays in service."
                return False

    def _follow(self) -> bool:
        if self.problem is not None:
            return False
        try:
            changed = self._opened.follow()
        except LogRewrittenError:
            self._opened.read_log_again()
            changed = True
        if not changed:
            return False
        self.current = IndexReader.of(self._opened)
        return True

    def _reopen(self, ready: Generation | None) -> bool:
        fresh = OpenIndex.open(self.directory, self._space, ready, in_memory=self.in_memory)
        if fresh.degraded is not None and self.current.degraded is None:
            self.problem = fresh.degraded  # the present generation was verified when it was opened: never go back
            return False
        self.problem = None
        self._opened = fresh
        self.current = IndexReader.of(fresh)  # the old reader closes when its last search lets go of it
        return True
