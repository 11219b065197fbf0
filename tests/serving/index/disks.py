"""Disks that kill, fail or lose what was not synced: stand-ins for :class:`vlkd_serving.index.fsio.Disk`."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vlkd_serving.index.fsio import Disk

NAMED_POINTS = {
    "temporary made": ("after", "mkdir", "gen-", None),
    "vectors 25 %": ("part", "write", "vectors.faiss", 0.25),
    "vectors 75 %": ("part", "write", "vectors.faiss", 0.75),
    "before fsync": ("before", "fsync", "vectors.faiss", None),
    "after fsync": ("after", "fsync", "vectors.faiss", None),
    "between files": ("after", "fsync", "items.sqlite", None),
    "mid-manifest": ("part", "write", "MANIFEST.tmp", 0.5),
    "before replace": ("before", "replace", "MANIFEST", None),
    "after replace": ("after", "replace", "MANIFEST", None),
    "mid-collection": ("after", "unlink", "vectors.faiss", None),
}
"""The ten points of a generation's commit: when, which call, on which file, which part of it."""
LOG_POINTS = {
    "record torn": ("part", "write", "wal-", 0.5),
    "record before fsync": ("before", "fsync", "wal-", None),
    "record after fsync": ("after", "fsync", "wal-", None),
    "segment made": ("after", "replace", "wal-", None),
}


class WatchedDisk(Disk):
    """Calls :meth:`event` around every call; a subclass acts on it."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def event(self, when: str, call: str, name: str, descriptor: int = -1, content: bytes = b"") -> None:
        """``when`` is ``before`` or ``after``; ``name`` the last part of the path."""

    def open(self, path: Path, flags: int) -> int:
        self.event("before", "open", path.name)
        descriptor = super().open(path, flags)
        self._names[descriptor] = path.name
        return descriptor

    def write(self, descriptor: int, content: bytes | memoryview) -> int:
        self.event("before", "write", self._names[descriptor], descriptor, bytes(content))
        return super().write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        self.event("before", "fsync", self._names[descriptor])
        super().fsync(descriptor)
        self.event("after", "fsync", self._names[descriptor])

    def fsync_dir(self, path: Path) -> None:
        self.event("before", "fsync_dir", path.name)
        super().fsync_dir(path)

    def mkdir(self, path: Path) -> None:
        self.event("before", "mkdir", path.name)
        super().mkdir(path)
        self.event("after", "mkdir", path.name)

    def replace(self, source: Path, target: Path) -> None:
        self.event("before", "replace", target.name)
        super().replace(source, target)
        self.event("after", "replace", target.name)

    def unlink(self, path: Path) -> None:
        self.event("before", "unlink", path.name)
        super().unlink(path)
        self.event("after", "unlink", path.name)

    def rmdir(self, path: Path) -> None:
        self.event("before", "rmdir", path.name)
        super().rmdir(path)


class KillingDisk(WatchedDisk):
    """Ends the process with SIGKILL at the n-th time that a named point is reached."""

    def __init__(self, point: str, nth: int) -> None:
        super().__init__()
        self._when, self._call, self._name, self._part = (NAMED_POINTS | LOG_POINTS)[point]
        self._left = nth

    def event(self, when: str, call: str, name: str, descriptor: int = -1, content: bytes = b"") -> None:
        fits = name == self._name or (self._name.endswith("-") and name.startswith(self._name))
        if not fits or call != self._call or when != ("before" if self._when == "part" else self._when):
            return
        self._left -= 1
        if self._left == 0:
            if self._part is not None:
                os.write(descriptor, content[: int(len(content) * self._part)])
            os.kill(os.getpid(), signal.SIGKILL)


class FailingDisk(WatchedDisk):
    """Fails the n-th call, after half of a write; with ``until_told`` all later writes too, as on a full disk."""

    def __init__(self, nth: int, error: int, until_told: bool) -> None:
        super().__init__()
        self._left = nth
        self._error = error
        self._sticky = until_told
        self.failed = False

    def event(self, when: str, call: str, name: str, descriptor: int = -1, content: bytes = b"") -> None:
        if when == "after":
            return
        self._left -= 1
        full = self._sticky and self.failed and call in ("write", "open", "mkdir")
        if self._left == 0 or full:
            self.failed = True
            if call == "write":
                os.write(descriptor, content[: len(content) // 2])
            raise OSError(self._error, os.strerror(self._error))

    def mend(self) -> None:
        """No call fails any more."""
        self._left, self._sticky = 0, False


@dataclass
class _File:
    now: bytes = b""
    synced: bytes = b""


@dataclass
class Moment:
    """What the disk's cache and its platters hold at one call, and how many changes were confirmed by then."""

    confirmed: int
    names: dict[Path, tuple[bytes, bytes]]
    durable_names: dict[Path, tuple[bytes, bytes]]
    folders: set[Path] = field(default_factory=set)
    durable_folders: set[Path] = field(default_factory=set)


class ForgetfulDisk(Disk):
    """Does what it is told, and keeps beside it what a power cut would leave: only what was synced.

    A file's bytes are safe after its fsync; its name, or that of a folder, after an fsync of the folder that holds it.

    Args:
        root: the folder watched; it must be empty, and is safe itself.
    """

    def __init__(self, root: Path) -> None:
        self.moments: list[Moment] = []
        self.confirmed = 0
        self._root = root
        self._names: dict[Path, _File] = {}
        self._durable: dict[Path, _File] = {}
        self._folders: set[Path] = set()
        self._durable_folders: set[Path] = set()
        self._open: dict[int, _File] = {}

    def _note(self) -> None:
        def contents(names: dict[Path, _File]) -> dict[Path, tuple[bytes, bytes]]:
            return {path: (file.now, file.synced) for path, file in names.items()}

        self.moments.append(
            Moment(
                self.confirmed,
                contents(self._names),
                contents(self._durable),
                set(self._folders),
                set(self._durable_folders),
            )
        )

    def open(self, path: Path, flags: int) -> int:
        descriptor = super().open(path, flags)
        if flags & os.O_CREAT:
            self._names.setdefault(path, _File()).now = b""
        self._open[descriptor] = self._names[path]
        self._note()
        return descriptor

    def write(self, descriptor: int, content: bytes | memoryview) -> int:
        self._open[descriptor].now += bytes(content)
        self._note()
        return super().write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        self._note()
        self._open[descriptor].synced = self._open[descriptor].now
        super().fsync(descriptor)

    def fsync_dir(self, path: Path) -> None:
        self._note()
        inside = {p: f for p, f in self._names.items() if p.parent == path}
        self._durable = {p: f for p, f in self._durable.items() if p.parent != path} | inside
        self._durable_folders = {p for p in self._durable_folders if p.parent != path}
        self._durable_folders |= {p for p in self._folders if p.parent == path}
        super().fsync_dir(path)

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self._folders.add(path)
        self._note()

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self._names[target] = self._names.pop(source)
        self._note()

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._names.pop(path)
        self._note()

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self._folders.discard(path)
        self._note()

    def after_power_cut(self, moment: Moment, target: Path, mode: str, rng: np.random.Generator) -> None:
        """Write to ``target`` what is left.

        Args:
            moment: when the power went.
            target: an empty folder.
            mode: ``nothing`` that was not synced is there; ``names`` are, without unsynced bytes; or ``some`` of both.
            rng: chooses what ``some`` means.
        """
        kept: dict[Path, bytes] = {}
        for path in sorted(moment.names.keys() | moment.durable_names.keys()):
            unsynced_name = mode == "names" or (mode == "some" and rng.random() < 0.5)
            now, synced = (moment.names if unsynced_name else moment.durable_names).get(path, (None, None))
            if now is None or synced is None:
                continue
            kept[path] = synced if mode != "some" else _some_of(now, synced, rng)
        for path, content in kept.items():
            copy = target / path.relative_to(self._root)
            if path.parent != self._root and path.parent not in moment.durable_folders and mode == "nothing":
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)


def _some_of(now: bytes, synced: bytes, rng: np.random.Generator) -> bytes:
    """Synced bytes, then a part of what followed, perhaps with a hole of zeros; or all, or nothing new."""
    if not now.startswith(synced):  # it was emptied and written anew without a sync: either state, whole or in part
        return synced if rng.random() < 0.5 else now[: int(rng.integers(len(now) + 1))]
    rest = bytearray(now[len(synced) :][: int(rng.integers(len(now) - len(synced) + 1))])
    if rest and rng.random() < 0.3:
        hole = int(rng.integers(len(rest)))
        rest[hole : hole + 64] = bytes(len(rest[hole : hole + 64]))
    return synced + bytes(rest)
