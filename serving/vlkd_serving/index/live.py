"""An index that follows its writer: a new committed generation is verified, then swapped in."""

from __future__ import annotations

import os
from pathlib import Path

from vlkd_hub.errors import VlkdError
from vlkd_serving.index.manifest import MANIFEST_NAME
from vlkd_serving.index.reader import IndexReader

__all__ = ["LiveIndex"]


class LiveIndex:
    """Holds the open generation; searches read :attr:`current` once and keep that reader until they end.

    Args:
        directory: the index folder.
        fingerprint: embedding space of the model that queries it.

    Raises:
        BundleError: as :meth:`IndexReader.open`.
    """

    def __init__(self, directory: str | Path, fingerprint: str) -> None:
        self.directory = Path(directory)
        self._fingerprint = fingerprint
        self._stamp = self._manifest_stamp()
        self.current = IndexReader.open(self.directory, fingerprint)
        self.problem: str | None = None

    @property
    def degraded(self) -> str | None:
        """Why the newest committed generation is not the one served, or None."""
        return self.problem or self.current.degraded

    def refresh(self) -> bool:
        """Open the committed generation if the manifest changed since the last look.

        A generation that cannot be opened leaves the present one in place and is told by :attr:`degraded`.

        Returns:
            Whether another generation is served now.
        """
        stamp = self._manifest_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            fresh = IndexReader.open(self.directory, self._fingerprint)
        except (VlkdError, OSError) as error:
            self.problem = f"{error} Generation {self.current.manifest.generation} stays in service."
            return False
        if fresh.degraded is not None:  # the present generation was verified when it was opened: never go back
            self.problem = fresh.degraded
            fresh.close()
            return False
        self.problem = None
        self.current = fresh  # the old reader closes when its last search lets go of it
        return True

    def _manifest_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.directory / MANIFEST_NAME)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
