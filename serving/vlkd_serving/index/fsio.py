"""Durable file operations, and nothing else: every byte of an index reaches the disk through this module."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["file_sha256", "fsync_dir", "fsync_file", "replace", "write_bytes"]

_BLOCK = 1 << 20


def fsync_file(path: Path) -> None:
    """Force one file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_dir(path: Path) -> None:
    """Force a folder's entries (new names, renames, removals) to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file and force it to the disk."""
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def replace(source: Path, target: Path) -> None:
    """Rename ``source`` over ``target`` in one step, then force the folder that holds them."""
    os.replace(source, target)
    fsync_dir(target.parent)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex, read a block at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
