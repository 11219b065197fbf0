"""Changing the index over HTTP: only where it was allowed, only with the scope, and found by the next search."""

from __future__ import annotations

import base64
import errno
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from vlkd_serving.app import create_app
from vlkd_serving.engine import Engine
from vlkd_serving.index import LiveIndex, LiveWriter
from vlkd_serving.index.errors import WhereTimeoutError
from vlkd_serving.index.generation import Generation
from vlkd_serving.index.wal_writer import LogWriter
from vlkd_serving.index.where import Condition
from vlkd_serving.model_pool import ModelSource
from vlkd_serving.security.keys import add_key
from vlkd_serving.settings import ServerSettings


@pytest.fixture
def writable(
    index_dir: Path, fake: ModuleType, tmp_path: Path
) -> Iterator[tuple[TestClient, dict[str, dict[str, str]]]]:
    """A server that may change its index, and headers of a reader and a writer."""
    keys = tmp_path / "keys"
    headers = {
        "read": {"X-API-Key": add_key(keys, "reader", ["read"])},
        "write": {"X-API-Key": add_key(keys, "writer", ["read", "write"])},
    }
    settings = ServerSettings(keys_file=str(keys))
    live = LiveIndex(index_dir, fake.FINGERPRINT)
    with LiveWriter(live) as writer:
        engine = Engine([ModelSource("fake", fake.FakeStudent)], settings, live, writer=writer)
        with TestClient(create_app(settings, engine), raise_server_exceptions=False) as client:
            yield client, headers


def test_an_item_comes_and_goes(
    writable: tuple[TestClient, dict[str, dict[str, str]]], picture_bytes: Callable[..., bytes], index_dir: Path
) -> None:
    """Put, found at once, replaced, removed; and another reader of the folder sees the same."""
    client, headers = writable

    def best(text: str) -> Any:
        body = {"text": text, "k": 1}
        return client.post("/v1/search", json=body, headers=headers["read"]).json()["results"][0]

    picture = base64.b64encode(picture_bytes((0, 255, 255))).decode()
    body = {"image": picture, "metadata": {"shelf": 4}}
    put = client.put("/v1/index/items/new/cyan one", json=body, headers=headers["write"])
    assert put.status_code == 200 and put.json() == {"id": "new/cyan one", "sequence": put.json()["sequence"]}
    assert (best("green blue")["id"], best("green blue")["metadata"]) == ("new/cyan one", {"shelf": 4})
    again = client.put("/v1/index/items/new/cyan one", json={"text": "red blue"}, headers=headers["write"])
    assert again.json()["sequence"] == put.json()["sequence"] + 1 and best("red blue")["id"] == "new/cyan one"
    assert len(LiveIndex(index_dir, None).current) == 4
    gone = client.delete("/v1/index/items/new/cyan one", headers=headers["write"])
    assert gone.status_code == 200 and best("red blue")["id"] != "new/cyan one"
    assert client.delete("/v1/index/items/new/cyan one", headers=headers["write"]).status_code == 404


def test_slow_changes_stop_no_search(
    writable: tuple[TestClient, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them wait for the disk than there are threads that decode and search."""
    client, headers = writable
    writer, mended = client.app.state.engine.writer, threading.Event()
    put, begun = writer.put, threading.Event()

    def slow_put(*args: Any) -> int:
        begun.set()
        assert mended.wait(30)
        return put(*args)

    def change(number: int) -> int:
        return client.put(f"/v1/index/items/n{number}", json={"text": "red"}, headers=headers["write"]).status_code

    monkeypatch.setattr(writer, "put", slow_put)
    with ThreadPoolExecutor(4) as pool:
        changes = [pool.submit(change, number) for number in range(4)]
        try:
            assert begun.wait(10)
            time.sleep(0.3)  # the others get as far as they can
            searched = client.post(
                "/v1/search", json={"text": "red"}, headers=headers["read"] | {"X-Timeout-Ms": "5000"}
            )
            assert searched.status_code == 200
        finally:
            mended.set()
        assert [each.result() for each in changes] == [200] * 4


def test_a_failing_disk_is_503(
    writable: tuple[TestClient, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch, index_dir: Path
) -> None:
    """It says that nothing was confirmed, and no path; and when the disk is mended all goes on."""
    client, headers = writable

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "append", full)
        for answer in (
            client.put("/v1/index/items/x", json={"text": "red"}, headers=headers["write"]),
            client.delete("/v1/index/items/red.png", headers=headers["write"]),
        ):
            assert answer.status_code == 503 and "not confirmed" in answer.json()["error"]["message"]
            assert str(index_dir) not in answer.text
    assert client.delete("/v1/index/items/red.png", headers=headers["write"]).status_code == 200


def test_a_compaction_that_fails_is_counted(
    writable: tuple[TestClient, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody sees that the log grows and searches slow down."""
    client, headers = writable

    def fail(*_: Any) -> None:
        raise MemoryError

    assert "vlkd_index_compaction_failures_total 0.0" in client.get("/metrics", headers=headers["read"]).text
    monkeypatch.setattr("vlkd_serving.index.live_writer.write_generation", fail)
    writer = client.app.state.engine.writer
    writer.compact_in_background()
    writer.wait()
    assert "vlkd_index_compaction_failures_total 1.0" in client.get("/metrics", headers=headers["read"]).text


def test_of_two_removals_one_finds_nothing(
    writable: tuple[TestClient, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that comes second is told so, wherever the first was when it came."""
    client, headers = writable
    writer = client.app.state.engine.writer
    remove = writer.remove
    monkeypatch.setattr(writer, "remove", lambda ids: remove(ids) and remove(ids))
    lost = client.delete("/v1/index/items/red.png", headers=headers["write"])
    assert lost.status_code == 404 and lost.json()["error"]["param"] == "id"


def test_who_may_not(writable: tuple[TestClient, dict[str, dict[str, str]]], make_client: Callable[..., Any]) -> None:
    """No key, a key that only reads, and a server that was not started for it."""
    client, headers = writable
    for method, status in (({}, 401), (headers["read"], 403)):
        assert client.put("/v1/index/items/x", json={"text": "red"}, headers=method).status_code == status
        assert client.delete("/v1/index/items/red.png", headers=method).status_code == status
    plain = make_client()
    assert plain.put("/v1/index/items/x", json={"text": "red"}).status_code == 403
    assert plain.delete("/v1/index/items/red.png").status_code == 403


@pytest.mark.parametrize(
    ("item_id", "body", "status"),
    [
        ("x", {}, 422),
        ("x", {"text": "red", "image": "AAAA"}, 422),
        ("x", {"text": ""}, 400),
        ("x", {"image": "@"}, 422),
        ("x", {"text": "red", "metadata": []}, 422),
        ("x", {"text": "red", "path": "/etc/passwd"}, 422),
        ("a" * 5000, {"text": "red"}, 422),
        ("%00", {"text": "red"}, 422),
    ],
)
def test_bad_items(
    writable: tuple[TestClient, dict[str, dict[str, str]]], item_id: str, body: dict[str, Any], status: int
) -> None:
    """Nothing is changed, and no path can be put in."""
    client, headers = writable
    answer = client.put(f"/v1/index/items/{item_id}", json=body, headers=headers["write"])
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"code", "message", "param", "request_id"}


def test_a_filter_that_takes_too_long_is_422(make_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The search's own deadline and the server's limit both reach it."""
    seen: list[Any] = []

    def selected(self: Generation, condition: Condition) -> None:
        seen.append(condition.seconds_left)
        raise WhereTimeoutError

    monkeypatch.setattr(Generation, "selected", selected)
    client = make_client(filter_s=5.0)
    for headers in ({}, {"X-Timeout-Ms": "3000"}):
        answer = client.post("/v1/search", json={"text": "red", "where": "n = 1"}, headers=headers)
        assert answer.status_code == 422 and "takes too long" in answer.json()["error"]["message"]
    assert None not in seen and 3 < seen[0] <= 5 and 0 < seen[1] <= 3
