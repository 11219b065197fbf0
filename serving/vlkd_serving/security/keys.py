"""API keys: random, shown once, and kept only as a hash."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import InvalidInputError

__all__ = ["SCOPES", "ApiKey", "KeyRing", "add_key", "remove_key"]

SCOPES = ("read", "write")
"""``read`` covers every question to the server, ``write`` also what changes its index."""
PREFIX = "vlkd-"
RANDOM_BYTES = 32
"""So much chance needs no slow hash: nobody guesses 256 bits."""


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept.

    Args:
        name: for people, logs and rate limits.
        scopes: of :data:`SCOPES`.
        sha256: of the key, hexadecimal.
    """

    name: str
    scopes: tuple[str, ...]
    sha256: str


class KeyRing:
    """The keys that a server knows.

    Args:
        keys: none lets nobody in.
    """

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)

    @classmethod
    def load(cls, path: str | Path, *, may_be_empty: bool = False) -> KeyRing:
        """Read a file of keys, one JSON object a line, as :func:`add_key` writes it.

        Args:
            path: of the file.
            may_be_empty: take a file without a key, which opens to nobody.

        Raises:
            InvalidInputError: no such file, one that cannot be read, no key in it, or a line that is none.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            raise InvalidInputError(f"There is no file of keys at {path}. Make one with `vlkd keys add`.") from None
        except OSError as error:
            raise InvalidInputError(
                f"The file of keys at {path} cannot be read: {error.strerror}. The server's user must be able to."
            ) from None
        keys = [_parse(line, number, path) for number, line in enumerate(lines, 1) if line.strip()]
        if not keys and not may_be_empty:
            raise InvalidInputError(f"{path} holds no key. Add one with `vlkd keys add`.")
        return cls(keys)

    @property
    def names(self) -> list[str]:
        """Names of the keys."""
        return [key.name for key in self.keys]

    def find(self, token: str) -> ApiKey | None:
        """The key that a client presents, or None. Every kept hash is compared, in constant time."""
        digest = hash_key(token)
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def hash_key(token: str) -> str:
    """SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def add_key(path: str | Path, name: str, scopes: Iterable[str]) -> str:
    """Make a key and append its hash to a file that only its owner can read.

    Returns:
        The key; it cannot be read from the file again.

    Raises:
        InvalidInputError: an unknown scope, none, or a name that is empty or taken.
    """
    path, chosen = Path(path), tuple(dict.fromkeys(scopes))
    if not chosen or not set(chosen) <= set(SCOPES):
        raise InvalidInputError(f"Scopes must be some of {', '.join(SCOPES)}, got {', '.join(chosen) or 'none'}.")
    with _changing(path):
        taken = KeyRing.load(path).names if path.exists() and path.stat().st_size else []
        if not name.strip() or name in taken:
            raise InvalidInputError(f"Give the key a name of its own; {name!r} is empty or taken.")
        token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        line = _line(ApiKey(name, chosen, hash_key(token)))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(line)
    return token


def remove_key(path: str | Path, name: str) -> None:
    """Take a key out of a file; the file is replaced in one step and keeps its owner and rights.

    Raises:
        InvalidInputError: the file cannot be read, or has no key of this name.
    """
    path = Path(path)
    with _changing(path):
        _write_without(path, name)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Wait for others who change the file. The folder is locked, since a change may put another file in its place.

    Raises:
        InvalidInputError: there is no such folder.
    """
    folder = path.resolve().parent
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInputError(f"The folder {folder} for the keys cannot be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_without(path: Path, name: str) -> None:
    ring = KeyRing.load(path)
    if name not in ring.names:
        raise InvalidInputError(f"{path} has no key named {name!r}; there are {', '.join(ring.names)}.")
    target = path.resolve()  # of a link, the file behind it
    work, before = target.with_name(f"{target.name}.tmp"), target.stat()
    descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(_line(key) for key in ring.keys if key.name != name)
        file.flush()
        os.fsync(file.fileno())
    os.chown(work, before.st_uid, before.st_gid)  # or a server that runs as its owner could not read it any more
    shutil.copymode(target, work)
    os.replace(work, target)


def _line(key: ApiKey) -> str:
    return json.dumps({"name": key.name, "scopes": list(key.scopes), "sha256": key.sha256}) + "\n"


def _parse(line: str, number: int, path: str | Path) -> ApiKey:
    try:
        entry = json.loads(line)
        key = ApiKey(str(entry["name"]), tuple(entry["scopes"]), str(entry["sha256"]))
        good = len(bytes.fromhex(key.sha256)) == 32 and set(key.scopes) <= set(SCOPES)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise InvalidInputError(f"Line {number} of {path} is not a key. Make keys with `vlkd keys add`.")
    return key
