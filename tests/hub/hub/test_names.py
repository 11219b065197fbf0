"""A name is a folder or a repository, never both, and a wrong one is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_hub.hub.names import RepoName, parse_repo, repo_name


@pytest.mark.parametrize(
    ("text", "revision", "expected"),
    [
        ("me/shapes", None, RepoName("me/shapes")),
        ("me/shapes@v1", None, RepoName("me/shapes", "v1")),
        ("me/shapes@feature/x", None, RepoName("me/shapes", "feature/x")),
        ("me/shapes", "v1", RepoName("me/shapes", "v1")),
        ("me/shapes@v1", "v1", RepoName("me/shapes", "v1")),
        ("Org_1/a.b-c", None, RepoName("Org_1/a.b-c")),
    ],
)
def test_repositories(text: str, revision: str | None, expected: RepoName) -> None:
    assert parse_repo(text, revision) == expected
    assert repo_name(text, revision) == expected
    assert parse_repo(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["shapes", "a/b/c", "/me/shapes", "me/", "me/shapes@", "../shapes", "me/..", "me/sha pes", "me/a--b", ""]
)
def test_what_is_no_repository(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no name of a repository.*owner/name@revision"):
        parse_repo(text)


def test_two_revisions_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="names the revision 'v1', and 'v2' was asked for"):
        parse_repo("me/shapes@v1", "v2")


def test_a_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student in runs/shapes must never be replaced by somebody's repository of that name."""
    monkeypatch.chdir(tmp_path)
    assert repo_name("runs/shapes") == RepoName("runs/shapes")
    (tmp_path / "runs/shapes").mkdir(parents=True)
    assert repo_name("runs/shapes") is None
    with pytest.raises(InvalidInputError, match="runs/shapes is a folder of this machine.*no revision 'v1'"):
        repo_name("runs/shapes", "v1")


@pytest.mark.parametrize("path", ["./me/shapes", "/me/shapes", "a/b/c", "student", ".quickstart/student"])
def test_what_can_only_be_a_path(path: str) -> None:
    assert repo_name(path) is None
