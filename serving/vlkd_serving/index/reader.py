"""Open an index: the committed generation, verified, and the log after it. A reader never changes the index."""

from __future__ import annotations

import os
from pathlib import Path

from vlkd_hub.errors import BundleError
from vlkd_serving.index.delta import Delta, DeltaState
from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.generation import Generation
from vlkd_serving.index.manifest import MANIFEST_NAME, PREVIOUS_NAME, IndexManifest, read_manifest
from vlkd_serving.index.search import SearchView
from vlkd_serving.index.spaces import QuerySpace, check_space
from vlkd_serving.index.wal_reader import LogReader, LogRewrittenError

__all__ = ["IndexReader", "OpenIndex", "manifest_stamp"]

_OPEN_ATTEMPTS = 5


class OpenIndex:
    """A generation and the log after it, as far as it was read; :class:`LiveIndex` lets it follow a writer.

    Args:
        directory: the index folder.
        manifest: of the generation.
        degraded: why this is not the committed generation, or None.
        ready: the generation, where it is open already.
        in_memory: as of :class:`Generation`.

    Raises:
        IndexCorruptError: a file that cannot be trusted.
        FileNotFoundError, LogRewrittenError: a writer was at work; read the manifest again.
    """

    def __init__(
        self,
        directory: Path,
        manifest: IndexManifest,
        degraded: str | None = None,
        ready: Generation | None = None,
        *,
        in_memory: bool = False,
    ) -> None:
        self.directory = directory
        self.degraded = degraded
        self.generation = ready if ready is not None else Generation(directory, manifest, in_memory=in_memory)
        self.read_log_again()

    @classmethod
    def open(
        cls,
        directory: Path,
        space: str | QuerySpace | None,
        ready: Generation | None = None,
        *,
        in_memory: bool = False,
    ) -> OpenIndex:
        """Open the committed generation, or the one before it where the committed one is damaged.

        ``ready`` is taken for the committed one, verified and open, if it is that.

        Raises:
            BundleError: no index there.
            SpaceError: one of another model.
            IndexCorruptError: neither generation can be trusted.
        """
        for _ in range(_OPEN_ATTEMPTS):
            try:
                found = cls._open_verified(directory, ready, in_memory)
            except (FileNotFoundError, LogRewrittenError):
                continue  # a writer removed a generation or wrote the log anew between two of our reads
            check_space(directory, found.generation.manifest, space)
            return found
        raise IndexCorruptError(f"Files of the index {directory} are missing, or change faster than they can be read.")

    @classmethod
    def _open_verified(cls, directory: Path, ready: Generation | None, in_memory: bool) -> OpenIndex:
        try:
            manifest = read_manifest(directory)
            if manifest is None:
                if (directory / PREVIOUS_NAME).exists():
                    raise IndexCorruptError(f"{directory / MANIFEST_NAME} is missing.")
                raise BundleError(f"There is no index in {directory}. Make one with `vlkd index build`.")
            same = ready is not None and ready.manifest == manifest
            return cls(directory, manifest, ready=ready if same else None, in_memory=in_memory)
        except IndexCorruptError as damage:
            try:
                previous = read_manifest(directory, PREVIOUS_NAME)
                if previous is None:
                    raise damage
                reason = f"{damage} Generation {previous.generation} is served instead."
                return cls(directory, previous, degraded=reason, in_memory=in_memory)
            except IndexCorruptError:
                raise damage from None

    def read_log_again(self) -> None:
        """Forget what the log said and read it from its start; the generation stays open.

        Raises:
            IndexCorruptError, LogRewrittenError: as :meth:`LogReader.poll`.
        """
        manifest = self.generation.manifest
        self._state = DeltaState(self.generation)
        self._log = LogReader(
            self.directory, manifest.epoch, manifest.sequence, manifest.fingerprint, manifest.embedding_dim
        )
        self._state.apply(self._log.poll())

    def follow(self) -> bool:
        """Read on in the log; whether there was something new.

        Raises:
            IndexCorruptError, LogRewrittenError: as :meth:`LogReader.poll`.
        """
        records = self._log.poll()
        self._state.apply(records)
        return bool(records)

    def view(self) -> Delta:
        """The changes read so far."""
        return self._state.view(self._log.sequence)


class IndexReader(SearchView):
    """One state of an index, open for search; safe to use from several threads."""

    @classmethod
    def open(
        cls, directory: str | Path, space: str | QuerySpace | None = None, *, in_memory: bool = False
    ) -> IndexReader:
        """Open what is there now; it stays as it is whatever a writer does.

        Args:
            directory: the index folder.
            space: fingerprint, or more, of the model that will query it; None skips the comparison.
            in_memory: read the ids, and the vectors that candidates are scored with, instead of mapping their files.

        Raises:
            BundleError: no index there.
            SpaceError: one built with another model.
            IndexCorruptError: neither generation can be trusted.
        """
        return cls.of(OpenIndex.open(Path(directory), space, in_memory=in_memory))

    @classmethod
    def of(cls, opened: OpenIndex) -> IndexReader:
        """The present state of an open index."""
        return cls(opened.directory, opened.generation, opened.view(), opened.degraded)


def manifest_stamp(directory: Path) -> tuple[int, int, int] | None:
    """What changes with every commit: inode, time and size of the manifest; None where there is none."""
    try:
        status = os.stat(directory / MANIFEST_NAME)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
