"""The keys of a running server: a file that may change under it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.security.keys import ApiKey, KeyRing

__all__ = ["KeyFile"]

logger = logging.getLogger("vlkd.serving")

LOOK_EVERY_S = 1.0
"""A key that was added or removed counts after so long at most, seconds."""

Stamp = tuple[int, int, int] | None


class KeyFile:
    """Reads a file of keys again when it has changed, so that a key can be taken away while the server runs.

    A file that is missing or broken changes nothing: the keys read last go on counting, and the log says so. A file
    without any key lets nobody in.

    Args:
        path: see :meth:`KeyRing.load`.
        clock: seconds.

    Raises:
        InvalidInputError: as :meth:`KeyRing.load`; a server does not start without keys it can read.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = Path(path), clock
        self._stamp = self._look()
        self._ring = KeyRing.load(path)
        self._next = clock() + LOOK_EVERY_S

    def find(self, token: str) -> ApiKey | None:
        """The key that a client presents, or None."""
        now = self._clock()
        if now >= self._next:
            self._next = now + LOOK_EVERY_S
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read()
        return self._ring.find(token)

    def _read(self) -> None:
        try:
            self._ring = KeyRing.load(self._path, may_be_empty=True)
        except InvalidInputError as error:
            logger.error("the keys read before go on counting: %s", error)
            return
        logger.info("the keys were read again: %d", len(self._ring.names))

    def _look(self) -> Stamp:
        """What changes with the file; a link is followed, since that is how Kubernetes renews a secret."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
