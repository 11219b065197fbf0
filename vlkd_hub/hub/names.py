"""How a model is named: a folder here, or ``owner/name`` on the Hub, with ``@revision`` where one is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import InvalidInputError

__all__ = ["RepoName", "parse_repo", "repo_name"]

REPO_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
EXAMPLE = "Expected owner/name, or owner/name@revision, for example me/shapes@v1."


@dataclass(frozen=True)
class RepoName:
    """A repository of the Hub, at a branch, tag or commit; None is its main branch."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"


def parse_repo(name: str, revision: str | None = None) -> RepoName:
    """Read the name of a repository.

    Args:
        name: ``owner/name`` or ``owner/name@revision``.
        revision: the revision, when ``name`` holds none.

    Raises:
        InvalidInputError: it is no such name, or it names another revision than ``revision``.
    """
    repo_id, at, noted = name.partition("@")
    if not REPO_ID.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id or (at and not noted):
        raise InvalidInputError(f"{name!r} is no name of a repository. {EXAMPLE}")
    if noted and revision not in (None, noted):
        raise InvalidInputError(f"{name!r} names the revision {noted!r}, and {revision!r} was asked for. Give one.")
    return RepoName(repo_id, noted or revision)


def repo_name(model: str | Path, revision: str | None = None) -> RepoName | None:
    """The repository that ``model`` means, or None where it means a folder of this machine.

    What exists here is a folder; so is what can only be a path (``./x``, ``/x``, ``a/b/c``). A folder has no revision.

    Raises:
        InvalidInputError: a revision was asked for and ``model`` is a folder.
    """
    text = str(model)
    local = Path(model).exists() or not REPO_ID.fullmatch(text.partition("@")[0])
    if not local:
        return parse_repo(text, revision)
    if revision is not None:
        raise InvalidInputError(f"{text} is a folder of this machine, which has no revision {revision!r}. {EXAMPLE}")
    return None
