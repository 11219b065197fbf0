"""Repositories in memory: branches, commits, files, and large files by their SHA-256. What the test server serves."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

LARGE = ("*.safetensors", "*.onnx", "*.bin", "*.png", "*.pt")
"""Patterns that the Hub's own .gitattributes keeps as large files, those that tests use."""


class Refused(Exception):
    """An answer that is no success: status and the Hub's error code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Blob:
    """One file of a commit."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_id(self) -> str:
        """As git names it; of a large file, the name of its pointer."""
        content = self.content
        if self.large:
            content = (
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n".encode()
            )
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_id


Tree = dict[str, Blob]


@dataclass
class Repo:
    """One repository."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Tree] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def add_commit(self, branch: str, tree: Tree, message: str) -> str:
        names = sorted((path, blob.git_id) for path, blob in tree.items())
        sha = hashlib.sha1(json.dumps([names, message, len(self.commits)]).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = tree, sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str:
        """Commit of a branch or of a commit's own name."""
        sha = self.branches.get(revision, revision)
        if sha not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha


class HubStore:
    """All repositories and all large files that were sent."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}

    def repo(self, name: str) -> Repo:
        if name not in self.repos:
            raise Refused(404, "RepoNotFound", "Repository not found")
        return self.repos[name]

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """What a test looks at: path -> content."""
        repo = self.repo(name)
        return {path: blob.content for path, blob in repo.commits[repo.resolve(revision)].items()}

    def create(self, name: str, private: bool) -> None:
        self.repos[name] = Repo(private)
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE)
        self.repos[name].add_commit("main", {".gitattributes": Blob(attributes.encode(), False)}, "initial commit")

    def create_branch(self, name: str, branch: str, start: str) -> None:
        repo = self.repo(name)
        if branch in repo.branches:
            raise Refused(409, "", f"Reference already exists: {branch}")
        repo.branches[branch] = repo.resolve(start)

    def preupload(self, name: str, revision: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Whether each file is a large one, and what stands under its name already."""
        repo = self.repo(name)
        present = repo.commits[repo.resolve(revision)]
        answer = []
        for item in files:
            base64.b64decode(item["sample"], validate=True)
            large = any(fnmatch.fnmatch(item["path"], pattern) for pattern in LARGE)
            entry = {"path": item["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if item["path"] in present:
                entry["oid"] = present[item["path"]].etag
            answer.append(entry)
        return answer

    def commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> str:
        """Apply one commit, all of it or nothing."""
        repo = self.repo(name)
        head = repo.resolve(branch)
        if branch not in repo.branches:
            raise Refused(400, "", f"{branch} is not a branch")
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, head):
            raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.commits[head])
        for line in lines:
            self._apply(tree, line["key"], line["value"])
        return repo.add_commit(branch, tree, header["summary"])

    def _apply(self, tree: Tree, key: str, value: dict[str, Any]) -> None:
        if key == "file":
            tree[value["path"]] = Blob(base64.b64decode(value["content"], validate=True), False)
        elif key == "lfsFile":
            if value["oid"] not in self.large:
                raise Refused(422, "", f"The large file {value['oid']} was never sent")
            tree[value["path"]] = Blob(self.large[value["oid"]], True)
        elif key == "deletedFile":
            if value["path"] not in tree:
                raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            del tree[value["path"]]
        elif key != "header":
            raise Refused(400, "", f"Unknown operation {key}")
