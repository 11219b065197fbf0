"""Where an index finds its pictures: a path relative to a named root, so that folder and index may move together.

The root ``index`` is the index's own folder. Any other name stands for a folder that the machine names: in the
environment variable ``VLKD_ROOT_<NAME>``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import InvalidInputError

__all__ = ["INDEX_ROOT", "ImageRoot"]

INDEX_ROOT = "index"
_ABSOLUTE = "absolute"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, kw_only=True)
class ImageRoot:
    """The folder that picture paths start from.

    Args:
        name: ``index``, or the name of a root of the machine.
        path: relative to it, with ``/``. Under ``absolute`` (only in indexes of format 1) a full path.
    """

    name: str
    path: str

    @classmethod
    def of(cls, folder: Path, directory: Path, name: str = INDEX_ROOT) -> ImageRoot:
        """Say where ``folder`` lies.

        Args:
            folder: the pictures.
            directory: the index folder.
            name: the root to start from.

        Raises:
            InvalidInputError: a name that cannot be one, a root the machine does not name, a folder outside it.
        """
        if not _NAME.fullmatch(name) or name == _ABSOLUTE:
            raise InvalidInputError(f"{name!r} cannot name a root: use lower-case letters, digits and _.")
        base = directory.resolve() if name == INDEX_ROOT else _machine_root(name)
        path = Path(os.path.relpath(folder.resolve(), base)).as_posix()
        if name != INDEX_ROOT and path.split("/")[0] == "..":
            raise InvalidInputError(f"{folder} does not lie in {base}, the root {name!r} of this machine.")
        return cls(name=name, path=path)

    @classmethod
    def absolute(cls, path: str) -> ImageRoot:
        """The root of an index of format 1."""
        return cls(name=_ABSOLUTE, path=path)

    @property
    def machine_named(self) -> bool:
        """Whether the machine, not the place of the index, says where it lies."""
        return self.name not in (INDEX_ROOT, _ABSOLUTE)

    def resolve(self, directory: Path) -> Path | None:
        """The folder on this machine, or None where the machine does not name the root."""
        if self.name == _ABSOLUTE:
            return Path(self.path).resolve()
        if self.name == INDEX_ROOT:
            return (directory.resolve() / self.path).resolve()
        try:
            return (_machine_root(self.name) / self.path).resolve()
        except InvalidInputError:
            return None

    def __str__(self) -> str:
        return self.path if self.name == _ABSOLUTE else f"{self.name}:{self.path}"


def _machine_root(name: str) -> Path:
    variable = f"VLKD_ROOT_{name.upper()}"
    value = os.environ.get(variable)
    if not value:
        raise InvalidInputError(f"This machine has no root {name!r}: set {variable} to its folder.")
    return Path(value).resolve()
