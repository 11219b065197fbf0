"""A server on 127.0.0.1 that speaks the Hub's protocol as far as pushing and pulling models needs it.

Repos, branches, preupload, LFS batch (basic), PUT, verify, commit, info, tree, resolve with ranges, validate-yaml.
It answers what ``huggingface_hub`` asks; it is no copy of the Hub, and xet is not among what it speaks.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from .hub_store import HubStore, Refused, Repo

TOKEN = "hf_test_token"
NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
REVISION = r"(?P<revision>[^/]+)"


class HubServer(ThreadingHTTPServer):
    """The server, its store, and what it was asked: ``(method, path)`` in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = HubStore()
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Run one until the block ends."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """One request: find the route, call it, answer."""

    protocol_version = "HTTP/1.1"
    server: HubServer
    routes = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", rf"/api/models/{NAME}/branch/(?P<branch>[^/]+)", "branch"),
        ("POST", rf"/api/models/{NAME}/preupload/{REVISION}", "preupload"),
        ("POST", rf"/api/models/{NAME}/commit/{REVISION}", "commit"),
        ("GET", rf"/api/models/{NAME}", "info"),
        ("GET", rf"/api/models/{NAME}/revision/{REVISION}", "info"),
        ("GET", rf"/api/models/{NAME}/tree/{REVISION}(?P<path>/.*)?", "tree"),
        ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
        ("POST", r"/lfs/verify", "lfs_verify"),
        ("GET", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_get"),
        ("GET", rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
    )

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self._read_body()
        self.server.asked.append((self.command, url.path))
        method = "GET" if self.command == "HEAD" else self.command
        try:
            for wanted, pattern, name in self.routes:
                found = re.fullmatch(pattern, url.path)
                if found and wanted == method:
                    parts = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                    getattr(self, f"do_{name}")(**parts)
                    return
            raise Refused(404, "EntryNotFound", f"No route {method} {url.path}")
        except Refused as refused:
            self._json({"error": str(refused)}, refused.status, {"X-Error-Code": refused.code})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, format: str, *args: Any) -> None:
        """Silence; a test that fails prints ``server.asked``."""

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(data).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _may_write(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "", "Invalid username or password.")

    def _repo(self, name: str) -> Repo:
        repo = self.server.store.repo(name)
        if repo.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "RepoNotFound", "Repository not found")
        return repo

    def do_create(self) -> None:
        self._may_write()
        asked = json.loads(self.body)
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        private = asked.get("visibility") == "private" or asked.get("private") is True
        status = 409 if name in self.server.store.repos else 200
        if status == 200:
            self.server.store.create(name, private)
        self._json({"url": f"{self.server.url}/{name}"}, status)

    def do_validate(self) -> None:
        content = json.loads(self.body)["content"]
        front = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            data = yaml.safe_load(front.group(1)) if front else {}
            errors = [] if isinstance(data, dict) else [{"message": "metadata must be an object"}]
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def do_branch(self, name: str, branch: str) -> None:
        self._may_write()
        self.server.store.create_branch(name, branch, json.loads(self.body or b"{}").get("startingPoint", "main"))
        self._json({})

    def do_preupload(self, name: str, revision: str) -> None:
        self._may_write()
        self._json({"files": self.server.store.preupload(name, revision, json.loads(self.body)["files"])})

    def do_commit(self, name: str, revision: str) -> None:
        self._may_write()
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        oid = self.server.store.commit(name, revision, lines)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"})

    def do_info(self, name: str, revision: str = "main") -> None:
        repo = self._repo(name)
        sha = repo.resolve(revision)
        siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
        info = {"_id": name, "id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings}
        self._json(info | {"tags": [], "downloads": 0, "likes": 0})

    def do_tree(self, name: str, revision: str, path: str = "/") -> None:
        repo = self._repo(name)
        tree = repo.commits[repo.resolve(revision)]
        folder = path.strip("/")
        found = [file for file in sorted(tree) if not folder or file.startswith(f"{folder}/")]
        if folder and not found:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist")
        self._json([self._entry(file, tree[file]) for file in found])

    @staticmethod
    def _entry(path: str, blob: Any) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_id}
        if blob.large:
            entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}
        return entry

    def do_lfs_batch(self, name: str) -> None:
        self._may_write()
        self.server.store.repo(name)
        objects = []
        for item in json.loads(self.body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.server.store.large:
                upload, verify = f"{self.server.url}/lfs/{item['oid']}", f"{self.server.url}/lfs/verify"
                entry["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def do_lfs_put(self, oid: str) -> None:
        self.server.store.large[oid] = self.body
        self._send(b"", headers={"ETag": f'"{oid}"'})

    def do_lfs_verify(self) -> None:
        asked = json.loads(self.body)
        content = self.server.store.large.get(asked["oid"], b"")
        if len(content) != asked["size"] or hashlib.sha256(content).hexdigest() != asked["oid"]:
            raise Refused(422, "", "The file that was sent is another one")
        self._json({})

    def do_lfs_get(self, oid: str) -> None:
        self._ranged(self.server.store.large[oid], {"ETag": f'"{oid}"'})

    def do_resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        sha = repo.resolve(revision)
        commit = {"X-Repo-Commit": sha}
        blob = repo.commits[sha].get(path)
        if blob is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound", **commit})
        elif blob.large:
            # Another host, as the Hub's store is one: the client then takes the headers from here.
            place = f"http://localhost:{self.server.server_port}/lfs/{blob.sha256}"
            linked = {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
            self._send(b"", 302, {"Location": place, **commit, **linked})
        else:
            self._ranged(blob.content, {"ETag": f'"{blob.git_id}"', **commit})

    def _ranged(self, content: bytes, headers: dict[str, str]) -> None:
        headers = {"Accept-Ranges": "bytes", **headers}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found:
            self._send(content, headers=headers)
            return
        start, end = int(found[1]), min(int(found[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            self._send(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
            return
        self._send(content[start : end + 1], 206, {"Content-Range": f"bytes {start}-{end}/{len(content)}", **headers})
