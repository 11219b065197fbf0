"""Change an index while it is searched: a change is confirmed once it is in the log, and compacted later."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index import fsio
from vlkd_serving.index.commit import Content, commit, disk_errors, write_generation
from vlkd_serving.index.generation import Generation
from vlkd_serving.index.items import Item, metadata_json
from vlkd_serving.index.live import LiveIndex
from vlkd_serving.index.lock import writer_lock
from vlkd_serving.index.manifest import IndexManifest
from vlkd_serving.index.reader import IndexReader
from vlkd_serving.index.roots import ImageRoot
from vlkd_serving.index.vectors import normalise
from vlkd_serving.index.wal import Record
from vlkd_serving.index.wal_writer import LogWriter
from vlkd_serving.index.writer import check_new

__all__ = ["CompactionPolicy", "LiveWriter"]

logger = logging.getLogger("vlkd.serving")

Value = TypeVar("Value")
RETRY_S = 5.0
"""After a compaction that failed, changes begin none for so long, and twice as long after each further one."""
LONGEST_RETRY_S = 300.0


class _EndedError(Exception):
    """The writer is being closed: a compaction gives up."""


@dataclass(frozen=True, kw_only=True)
class CompactionPolicy:
    """When the log is worth a new generation.

    Args:
        rows: added rows that make it so; they are searched one by one, about a millisecond for each 10,000.
        share: added rows as a share of the index that make it so even below ``rows``, from ``least`` rows on.
        least: below this many rows it never is.
    """

    rows: int = 20_000
    share: float = 0.2
    least: int = 1_000

    def due(self, reader: IndexReader) -> bool:
        """Whether the log of this state should be compacted."""
        added = len(reader.delta.alive)
        dead = 0 if reader.delta.dead_base is None else int(reader.delta.dead_base.sum())
        many = max(added, dead)
        return many >= self.rows or (many >= self.least and many >= self.share * max(1, len(reader.generation)))


class LiveWriter:
    """The one writer of an index folder, for small changes; a context manager that holds its lock.

    Each change is whole or not there, and survives a crash once the method returned. Searches go on meanwhile. Safe to
    call from several threads.

    Args:
        index: the open index to change, or its folder.
        policy: when a change begins a compaction in the background.

    Raises:
        IndexLockedError: on entry, when another process writes this index.
        BundleError: on entry, when there is no index, or a damaged one.
    """

    def __init__(self, index: LiveIndex | str | Path, policy: CompactionPolicy | None = None) -> None:
        self._given = index
        self.directory = index.directory if isinstance(index, LiveIndex) else Path(index)
        self._policy = policy
        self._lock = writer_lock(self.directory)
        self._changing = threading.Lock()
        self._compacting = threading.Lock()
        self._log: LogWriter | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._failures = 0
        self._retry_at = 0.0
        self.problem: str | None = None
        """Why the last compaction in the background failed, or None."""
        self.on_failure: Callable[[], None] | None = None
        """Called, on the thread of the compaction, for each that failed."""

    def __enter__(self) -> LiveWriter:
        self._lock.__enter__()
        try:
            self.live = self._given if isinstance(self._given, LiveIndex) else LiveIndex(self._given, None)
            self.live.refresh()
            if self.live.degraded is not None:
                raise BundleError(
                    f"The index cannot be changed while it is damaged. {self.live.degraded} Build it again."
                )
        except BaseException as error:
            self._lock.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self.wait()
        with self._changing:
            if self._log is not None:
                self._log.close()
        self._lock.__exit__(kind, error, trace)

    def put(
        self, items: Sequence[Item], vectors: NDArray[np.generic], image_root: Path | ImageRoot | None = None
    ) -> int:
        """Add items; one whose id is there already replaces the old one, and of equal ids the last counts.

        Args:
            items: N items; paths start from the index's image root.
            vectors: (N, D).
            image_root: where the paths start, to be compared with the index's; None takes that for granted.

        Returns:
            The sequence number of the change.

        Raises:
            InvalidInputError: vectors, metadata or an image root that do not fit; nothing is changed.
            IndexWriteError: the disk refused. The change is not confirmed; it may be found later all the same.
        """
        reader = self.live.current
        root = ImageRoot.of(image_root, self.directory) if isinstance(image_root, Path) else image_root
        check_new(reader, items, vectors, root or reader.manifest.image_root)
        for item in items:
            metadata_json(item)
        return self._append(tuple(items), normalise(vectors), ()) if items else reader.sequence

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items.

        Returns:
            The sequence number of the change.

        Raises:
            InvalidInputError: an id is not in the index; nothing is removed then.
            IndexWriteError: as in :meth:`put`.
        """
        reader = self.live.current
        missing = sorted({item_id for item_id in ids if reader.get(item_id) is None})
        if missing:
            raise InvalidInputError(f"These ids are not in the index: {', '.join(missing[:5])}.")
        nothing = np.empty((0, reader.manifest.embedding_dim), dtype=np.float32)
        return self._append((), nothing, tuple(ids)) if ids else reader.sequence

    def compact(self) -> IndexManifest:
        """Write generation and log into a new generation; changes and searches go on meanwhile.

        Raises:
            IndexWriteError: the disk refused; the log stays as it is and nothing is lost.
            IndexCorruptError: what was written cannot be read again; as before.
        """
        with self._compacting, disk_errors(self.directory):
            with self._changing:
                self._open_log().rotate()
                reader = self.live.current
            ready = self._written(reader)
            with self._changing:
                commit(self.directory, ready.manifest)
                self.live.refresh(ready)
        return ready.manifest

    def compact_in_background(self) -> None:
        """Begin :meth:`compact` on a thread, unless one runs; :attr:`problem` tells if it failed.

        Leaving the writer ends it, unfinished: what is not committed is removed, and its changes are in the log.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._compact_quietly, name="vlkd-compaction")
            self._thread.start()

    def wait(self) -> None:
        """Wait for a compaction that runs."""
        if self._thread is not None:
            self._thread.join()

    def _compact_quietly(self) -> None:
        try:
            self.compact()
            self.problem, self._failures = None, 0
        except _EndedError:
            logger.info("the compaction of %s ends unfinished: its writer is being closed", self.directory)
        except Exception as error:  # also of FAISS, and for want of memory: changes and searches go on
            self._failures += 1
            wait_s = min(LONGEST_RETRY_S, RETRY_S * 2 ** min(self._failures - 1, 10))
            self._retry_at = time.monotonic() + wait_s
            self.problem = str(error) or type(error).__name__
            logger.error("the compaction of %s failed; no other for %.0f s", self.directory, wait_s, exc_info=error)
            if self.on_failure is not None:
                self.on_failure()

    def _written(self, reader: IndexReader) -> Generation:
        """Write a state into a new generation and open it, verified, before anyone has to wait for that."""
        manifest = write_generation(self.directory, self._content(reader), lambda step, rows: self._go_on())
        try:
            return Generation(self.directory, manifest, in_memory=self.live.in_memory)
        except BaseException:
            with suppress(OSError):
                fsio.remove_tree(self.directory / manifest.folder)
            raise

    def _go_on(self) -> None:
        if self._ending.is_set():
            raise _EndedError

    def _unless_ending(self, values: Iterable[Value]) -> Iterator[Value]:
        for value in values:
            self._go_on()
            yield value

    def _append(self, put: tuple[Item, ...], vectors: NDArray[np.float32], removed: tuple[str, ...]) -> int:
        with self._changing, disk_errors(self.directory):
            log = self._open_log()
            record = Record(log.sequence + 1, put, vectors, removed)
            try:
                log.append(record)
            except BaseException:
                self._log = None
                log.close()
                raise
            self.live.refresh()
            due = self._policy is not None and self._policy.due(self.live.current)
            if due and time.monotonic() >= self._retry_at:
                self.compact_in_background()
            return record.sequence

    def _open_log(self) -> LogWriter:
        if self._log is None:
            manifest = self.live.current.manifest
            self._log = LogWriter(
                self.directory, manifest.epoch, manifest.sequence, manifest.fingerprint, manifest.embedding_dim
            )
            self.live.refresh()
        return self._log

    def _content(self, reader: IndexReader) -> Content:
        manifest = reader.manifest
        return Content(
            items=self._unless_ending(reader.iter_items()),
            blocks=self._unless_ending(reader.iter_vectors()),
            count=len(reader),
            dim=manifest.embedding_dim,
            fingerprint=manifest.fingerprint,
            space=manifest.space,
            compatible=manifest.compatible,
            image_root=manifest.image_root,
            epoch=manifest.epoch,
            sequence=reader.sequence,
            budget=manifest.budget,
            before=reader.generation.ranking.structure,
        )
