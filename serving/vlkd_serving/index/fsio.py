"""Durable file operations, and nothing else: every byte of an index reaches the disk through this module.

The system calls sit behind :data:`disk`, so that a test can stand in for a disk that fails, fills up or loses power.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType

from vlkd_serving.index.errors import IndexCorruptError

__all__ = [
    "Disk",
    "DurableFile",
    "disk",
    "file_sha256",
    "fsync_dir",
    "make_dir",
    "read_regular",
    "regular_size",
    "remove_tree",
    "replace",
    "unlink",
    "write_bytes",
]

_BLOCK = 1 << 20


class Disk:
    """The system calls that change a disk, one method each."""

    def open(self, path: Path, flags: int) -> int:
        """Open for writing; never through a link."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def write(self, descriptor: int, content: bytes | memoryview) -> int:
        """Write once; it may write less than it was given."""
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        """Force a file's content to the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close."""
        os.close(descriptor)

    def fsync_dir(self, path: Path) -> None:
        """Force a folder's entries (new names, renames, removals) to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def mkdir(self, path: Path) -> None:
        """Make a folder that is not there yet."""
        path.mkdir()

    def replace(self, source: Path, target: Path) -> None:
        """Rename over what is there, in one step."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove one file or link."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


disk = Disk()
"""What this process writes through."""


class DurableFile:
    """A file being written, with a buffer; a context manager that closes, and syncs only when told to.

    Args:
        path: the file.
        append: go on at the end of a file that exists, instead of making a new, empty one.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        flags = os.O_WRONLY | (os.O_APPEND if append else os.O_CREAT | os.O_TRUNC)
        self._descriptor = disk.open(path, flags)
        self._buffer = bytearray()

    def write(self, content: bytes | memoryview) -> int:
        """Take bytes; they reach the disk with :meth:`flush`, :meth:`sync` or when the buffer is full."""
        self._buffer += content
        if len(self._buffer) >= _BLOCK:
            self.flush()
        return len(content)

    def flush(self) -> None:
        """Hand the buffer to the system."""
        waiting = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while waiting:
            waiting = waiting[disk.write(self._descriptor, waiting) :]

    def sync(self) -> None:
        """Hand over the buffer and force the file to the disk."""
        self.flush()
        disk.fsync(self._descriptor)

    def close(self) -> None:
        """Close; what is still in the buffer is dropped, since only synced bytes count."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            disk.close(descriptor)

    def __enter__(self) -> DurableFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file and force it to the disk."""
    with DurableFile(path) as handle:
        handle.write(content)
        handle.sync()


def make_dir(path: Path) -> None:
    """Make a folder that is not there yet."""
    disk.mkdir(path)


def fsync_dir(path: Path) -> None:
    """Force a folder's entries to the disk."""
    disk.fsync_dir(path)


def replace(source: Path, target: Path) -> None:
    """Rename ``source`` over ``target`` in one step, then force the folder that holds them."""
    disk.replace(source, target)
    disk.fsync_dir(target.parent)


def unlink(path: Path) -> None:
    """Remove one file."""
    disk.unlink(path)


def remove_tree(folder: Path) -> None:
    """Remove a folder of plain files; a link in it is removed, never followed."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            disk.unlink(path)
    disk.rmdir(folder)


def regular_size(path: Path) -> int:
    """Size of a plain file in bytes.

    Raises:
        FileNotFoundError: nothing is there.
        IndexCorruptError: a link, folder, pipe or device is there.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise IndexCorruptError(f"{path} is not a plain file. An index never holds links: copy it with cp -rL.")
    return status.st_size


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a plain, small file.

    Raises:
        FileNotFoundError: nothing is there.
        IndexCorruptError: not a plain file, or larger than ``max_bytes``.
    """
    size = regular_size(path)
    if size > max_bytes:
        raise IndexCorruptError(f"{path} has {size} bytes, expected at most {max_bytes}: it is damaged.")
    return path.read_bytes()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex, read a block at a time."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
