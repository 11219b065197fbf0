"""One writer at a time, held by the kernel: a writer that dies leaves no stale lock behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlkd_hub.errors import BundleError
from vlkd_serving.index.errors import IndexLockedError, IndexWriteError

__all__ = ["LOCK_NAME", "writer_lock"]

LOCK_NAME = "LOCK"


@contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Hold the index's writer lock; the file keeps the holder's process id so that a second writer can name it.

    Raises:
        BundleError: the folder is not there.
        IndexLockedError: another process holds the lock. It fails at once and never waits.
        IndexWriteError: the lock cannot be opened; a link in its place is not followed.
    """
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        raise BundleError(f"There is no index in {directory}. Make one with `vlkd index build`.") from None
    except OSError as error:
        raise IndexWriteError(f"{directory / LOCK_NAME} cannot be opened: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise IndexLockedError(
                f"The index {directory} is being written by process {holder}. Wait until it ends, then retry."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
