"""Keys, scopes, rates and browsers."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.errors import RateLimitedError
from vlkd_serving.security import key_file
from vlkd_serving.security.key_file import KeyFile
from vlkd_serving.security.keys import KeyRing, add_key, remove_key
from vlkd_serving.security.rate_limit import RateLimiter

HEALTH = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str, str]:
    """A file of two keys, and the keys: one reads, one only writes."""
    path = tmp_path / "keys"
    return path, add_key(path, "app", ["read"]), add_key(path, "indexer", ["write"])


def test_the_file_holds_no_key(keys: tuple[Path, str, str]) -> None:
    """Only hashes, and only its owner may read it."""
    path, app, indexer = keys
    text = path.read_text()
    assert app not in text and indexer not in text and app.removeprefix("vlkd-") not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ring = KeyRing.load(path)
    found = ring.find(app)
    assert found is not None and (found.name, found.scopes) == ("app", ("read",))
    assert ring.find(app + "x") is None and ring.find("") is None and ring.find("\ud800") is None


@pytest.mark.parametrize(("name", "scopes"), [("app", ["read"]), ("", ["read"]), ("new", []), ("new", ["root"])])
def test_keys_that_are_refused(keys: tuple[Path, str, str], name: str, scopes: list[str]) -> None:
    """A taken name, none, and scopes that do not exist."""
    with pytest.raises(InvalidInputError):
        add_key(keys[0], name, scopes)


@pytest.mark.parametrize("text", ["", "nonsense", '{"name": "a"}', '{"name": "a", "scopes": ["read"], "sha256": "zz"}'])
def test_a_file_that_is_no_list_of_keys(tmp_path: Path, text: str) -> None:
    """The server must not start open because its keys cannot be read."""
    (tmp_path / "keys").write_text(text)
    for path in (tmp_path / "keys", tmp_path / "none"):
        with pytest.raises(InvalidInputError):
            KeyRing.load(path)


def test_a_file_that_cannot_be_read_is_not_called_missing(tmp_path: Path) -> None:
    """Its operator would look in the wrong place."""
    with pytest.raises(InvalidInputError, match="There is no file of keys"):
        KeyRing.load(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="cannot be read: Is a directory"):
        KeyRing.load(tmp_path)
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match="Line 1 of .* is not a key"):
        KeyRing.load(tmp_path / "keys")


def test_two_who_change_the_file_at_once_lose_nothing(keys: tuple[Path, str, str]) -> None:
    """A key that is added while another is taken away stays, whichever of the two comes first."""
    path = keys[0]
    names = [f"key-{n}" for n in range(40)]
    for name in names[:20]:
        add_key(path, name, ["read"])
    with ThreadPoolExecutor(8) as pool:
        added = [pool.submit(add_key, path, name, ["read"]) for name in names[20:]]
        removed = [pool.submit(remove_key, path, name) for name in names[:20]]
        for each in (*added, *removed):
            each.result()
    ring = KeyRing.load(path)
    assert sorted(ring.names) == sorted(["app", "indexer", *names[20:]])
    assert all(ring.find(each.result()) is not None for each in added)


def test_keys_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="folder .* cannot be opened"):
        add_key(tmp_path / "none" / "keys", "app", ["read"])


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


def test_a_running_server_follows_its_file(keys: tuple[Path, str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Added and removed keys count; what cannot be read changes nothing; an empty file lets nobody in."""
    path, app, indexer = keys
    known = KeyFile(path, Clock())
    later = add_key(path, "later", ["read"])
    assert known.find(app) is not None and known.find(later) is not None
    remove_key(path, "app")
    assert known.find(app) is None and known.find(later) is not None
    whole = path.read_text()
    for broken in ("nonsense", None):
        caplog.clear()
        path.write_text(broken) if broken is not None else path.unlink()
        assert known.find(later) is not None and known.find(app) is None
        assert "the keys read before go on counting" in caplog.text
    path.write_text(whole)
    assert known.find(indexer) is not None
    path.write_text("")
    assert known.find(indexer) is None and known.find(later) is None


def test_the_file_is_not_looked_at_for_every_request(keys: tuple[Path, str, str]) -> None:
    known = KeyFile(keys[0], lambda: 0.0)
    keys[0].write_text("")
    assert known.find(keys[1]) is not None


def test_a_removed_key_is_refused_by_a_server_that_runs(
    make_client: Callable[..., Any], keys: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file, "LOOK_EVERY_S", 0.0)
    client = make_client(keys_file=str(keys[0]))
    headers = {"X-API-Key": keys[1]}
    assert client.get("/v1/models", headers=headers).status_code == 200
    remove_key(keys[0], "app")
    assert client.get("/v1/models", headers=headers).status_code == 401


def test_every_route_but_health_asks_for_a_key(make_client: Callable[..., Any], keys: tuple[Path, str, str]) -> None:
    """All of the OpenAPI document, the document itself, the docs, the metrics, and addresses that do not exist."""
    client = make_client(keys_file=str(keys[0]))
    routes = [
        (method, path)
        for path, operations in client.app.openapi()["paths"].items()
        for method in operations
        if path not in HEALTH
    ]
    assert len(routes) > 20
    for method, path in [*routes, ("get", "/docs"), ("get", "/openapi.json"), ("get", "/nothing"), ("put", "/embed")]:
        address = path.replace("{model}", "fake").replace("{item_id}", "red.png")
        answer = client.request(method, address)
        assert answer.status_code == 401, (method, path)
        assert answer.json()["error"]["code"] == "unauthorized" and answer.headers["www-authenticate"] == "Bearer"
        assert client.request(method, address, headers={"authorization": "Bearer wrong"}).status_code == 401
    for path in HEALTH:
        assert client.get(path).status_code == 200


def test_keys_and_scopes(make_client: Callable[..., Any], keys: tuple[Path, str, str]) -> None:
    """Both headers do; a key without the scope is 403, before the body is read."""
    path, app, indexer = keys
    client = make_client(keys_file=str(path))
    body = {"text": "red"}
    for headers in ({"Authorization": f"Bearer {app}"}, {"X-API-Key": app}, {"authorization": f"bearer  {app} "}):
        assert client.post("/v1/search", json=body, headers=headers).status_code == 200
    refused = client.post("/v1/search", content=b"{", headers={"X-API-Key": indexer})
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "forbidden"
    assert client.post("/v1/index/items", headers={"X-API-Key": app}).status_code == 403
    assert client.post("/v1/index/items", headers={"X-API-Key": indexer}).status_code != 403


def test_a_bucket_fills_again() -> None:
    """2 a second, 3 at once: the fourth waits half a second, others are not concerned."""
    now = [0.0]
    limiter = RateLimiter(2.0, 3, lambda: now[0])
    for _ in range(3):
        limiter.take("a")
    with pytest.raises(RateLimitedError) as caught:
        limiter.take("a")
    assert caught.value.retry_after_s == 1
    limiter.take("b")
    now[0] = 0.5
    limiter.take("a")
    with pytest.raises(RateLimitedError):
        limiter.take("a")
    RateLimiter(0.0, 1).take("anyone")


def test_rates_are_by_key(make_client: Callable[..., Any], keys: tuple[Path, str, str], tmp_path: Path) -> None:
    """429 with Retry-After for the one that asks too much, and only for that one."""
    other = add_key(keys[0], "other", ["read"])
    client = make_client(keys_file=str(keys[0]), rate_per_s=0.01, rate_burst=2)
    codes = [client.get("/v1/models", headers={"X-API-Key": keys[1]}).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    assert client.get("/v1/models", headers={"X-API-Key": other}).status_code == 200
    limited = client.get("/v1/models", headers={"X-API-Key": keys[1]})
    assert limited.json()["error"]["code"] == "rate_limited" and int(limited.headers["retry-after"]) > 1


def test_browsers(make_client: Callable[..., Any], keys: tuple[Path, str, str]) -> None:
    """No page may call by default; an allowed origin may, and its preflight needs no key."""
    preflight = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in make_client().options("/v1/search", headers=preflight).headers
    client = make_client(cors_origins=("https://app.example.org",), keys_file=str(keys[0]))
    assert client.options("/v1/search", headers=preflight).headers["access-control-allow-origin"] == preflight["origin"]
    evil = {**preflight, "origin": "https://evil.example.org"}
    assert "access-control-allow-origin" not in client.options("/v1/search", headers=evil).headers
