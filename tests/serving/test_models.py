"""Several models, idle unload, reload after damage, and one encoding for every question about a picture."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from vlkd_hub.errors import BundleError
from vlkd_serving.app import create_app
from vlkd_serving.engine import Engine
from vlkd_serving.loading import named_bundles
from vlkd_serving.model_pool import ModelSource
from vlkd_serving.settings import ServerSettings


def client_of(sources: list[ModelSource], **limits: Any) -> TestClient:
    settings = ServerSettings(**limits)
    return TestClient(create_app(settings, Engine(sources, settings)), raise_server_exceptions=False)


def test_requests_choose_a_model_by_name(fake: ModuleType, picture_bytes: Callable[..., bytes]) -> None:
    """The first is the default and is loaded at the start, the other when it is asked for."""
    loads: list[str] = []

    def source(name: str) -> ModelSource:
        def load() -> Any:
            loads.append(name)
            return fake.FakeStudent()

        return ModelSource(name, load)

    image = base64.b64encode(picture_bytes("red")).decode()
    with client_of([source("one"), source("two")]) as client:
        assert client.post("/v1/caption", json={"image": image}).json()["model"] == "one" and loads == ["one"]
        assert client.post("/v1/caption", json={"image": image, "model": "two"}).json()["model"] == "two"
        client.post("/v1/caption", json={"image": image, "model": "two"})
        assert loads == ["one", "two"]
        refused = client.post("/v1/caption", json={"image": image, "model": "three"})
        assert refused.status_code == 404 and "one, two" in refused.json()["error"]["message"]


def test_an_idle_model_is_unloaded_and_comes_back(fake: ModuleType) -> None:
    """Its memory is free meanwhile; the next request waits for the load and is answered."""
    loads = []

    def load() -> Any:
        loads.append(1)
        return fake.FakeStudent()

    with client_of([ModelSource("m", load)], idle_unload_s=0.2) as client:
        until = time.monotonic() + 5
        while 'vlkd_model_loaded{model="m"} 0.0' not in client.get("/metrics").text:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert client.post("/embed", json={"inputs": "red"}).status_code == 200 and len(loads) == 2
        assert client.get("/readyz").status_code == 200


def test_a_model_that_fails_its_check_is_loaded_anew(fake: ModuleType) -> None:
    """Not ready once, then ready again, as an orchestrator hopes."""
    students: list[Any] = []

    def load() -> Any:
        students.append(fake.FakeStudent())
        return students[-1]

    with client_of([ModelSource("m", load)]) as client:
        students[0].encode_texts = lambda tokens: 1 / 0
        assert client.get("/readyz").status_code == 503
        until = time.monotonic() + 10
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert len(students) == 2


def test_only_the_model_that_failed_is_dropped(fake: ModuleType) -> None:
    """A check of it that ends late, when another was loaded in its place, leaves that one alone."""

    async def main() -> None:
        engine = Engine([ModelSource("m", lambda: fake.FakeStudent())], ServerSettings())
        await engine.start()
        async with engine.models.use("m") as failed:
            await engine.models.discard("m", failed)
        async with engine.models.use("m") as good:
            await engine.models.discard("m", failed)
        assert good is not failed
        async with engine.models.use("m") as now:
            assert now is good and now.alive
        await engine.stop()

    asyncio.run(main())


def test_checks_in_a_row_are_one(fake: ModuleType) -> None:
    """Readiness needs no key: asking for it over and over must not keep the model busy."""
    student = fake.FakeStudent()
    with client_of([ModelSource("m", lambda: student)]) as client:
        before = student.encoded
        for _ in range(5):
            assert client.get("/readyz").status_code == 200
        assert student.encoded <= before + 2

        async def together() -> None:
            await asyncio.sleep(1.1)  # longer than a finding is kept
            await asyncio.gather(*(client.app.state.engine.canary() for _ in range(5)))

        assert client.portal is not None
        before = student.encoded
        client.portal.call(together)
        assert student.encoded == before + 1


def test_checks_neither_keep_a_model_nor_load_an_idle_one(fake: ModuleType) -> None:
    """An orchestrator asks every few seconds; that is no use of the model."""
    loads = []

    def load() -> Any:
        loads.append(1)
        return fake.FakeStudent()

    with client_of([ModelSource("m", load)], idle_unload_s=1.5) as client:
        until = time.monotonic() + 30
        while 'vlkd_model_loaded{model="m"} 0.0' not in client.get("/metrics").text:
            assert client.get("/readyz").status_code == 200 and time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1.1)  # longer than a finding is kept
        assert client.get("/readyz").status_code == 200 and len(loads) == 1


def test_a_bundle_of_another_space_is_not_served_in_its_place(fake: ModuleType) -> None:
    """Its vectors would be mixed with those of the index, and those that clients keep."""
    spaces: list[str] = []

    def load() -> Any:
        student = fake.FakeStudent()
        student.fingerprint = spaces.pop(0)
        return student

    for known in (fake.FINGERPRINT, None):
        spaces[:] = [fake.FINGERPRINT, "be" * 32]
        with client_of([ModelSource("m", load, known)], idle_unload_s=0.2) as client:
            until = time.monotonic() + 10
            while 'vlkd_model_loaded{model="m"} 0.0' not in client.get("/metrics").text:
                assert time.monotonic() < until
                time.sleep(0.05)
            for _ in range(2):
                answer = client.post("/v1/embeddings", json={"input": "red"})
                assert answer.status_code == 503 and "restart the server" in answer.text
            assert client.get("/readyz").status_code == 503


def test_a_bundle_that_is_damaged_on_disk_is_503_until_it_is_whole(fake: ModuleType) -> None:
    """No request crashes, and none waits for a load that failed a moment ago."""
    state = {"damaged": False, "loads": 0}

    def load() -> Any:
        state["loads"] += 1
        if state["damaged"]:
            raise BundleError("/srv/secret/bundle: SHA-256 differs")
        return fake.FakeStudent()

    with client_of([ModelSource("m", lambda: fake.FakeStudent()), ModelSource("n", load)]) as client:
        state["damaged"] = True
        body = {"input": "red", "model": "n"}
        for _ in range(3):
            answer = client.post("/v1/embeddings", json=body)
            assert answer.status_code == 503 and "secret" not in answer.text
        assert state["loads"] == 1
        assert client.post("/v1/embeddings", json={"input": "red"}).status_code == 200
        state["damaged"] = False
        until = time.monotonic() + 10
        while client.post("/v1/embeddings", json=body).status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_one_picture_is_encoded_once(
    make_client: Callable[..., Any], fake: ModuleType, picture_bytes: Callable[..., bytes]
) -> None:
    """Caption, question, embedding and search of it, as a file and as base64, in several dialects."""
    student = fake.FakeStudent()
    client = make_client(student)
    hits = 'vlkd_picture_cache_total{result="hit"}'
    hits_before = float(client.get("/metrics").text.split(hits)[1].split()[0])
    before, picture = student.encoded, picture_bytes("red", "JPEG", (40, 30))
    encoded = base64.b64encode(picture).decode()
    for answer in (
        client.post("/v1/caption", files={"image": ("x.jpg", picture)}),
        client.post("/v1/vqa", json={"image": encoded, "question": "what color?"}),
        client.post("/v1/embeddings", json={"input": f"data:image/jpeg;base64,{encoded}"}),
        client.post("/v1/search", files={"image": ("x.jpg", picture)}),
        client.post("/hf/image-to-text", content=picture, headers={"content-type": "image/jpeg"}),
    ):
        assert answer.status_code == 200
    assert student.encoded == before + 1
    assert float(client.get("/metrics").text.split(hits)[1].split()[0]) == hits_before + 4


@pytest.mark.parametrize(
    ("values", "names"),
    [(["/a/b"], ["b"]), (["x=/a/b", "/c/d"], ["x", "d"]), (["/a=b/c"], ["c"])],
)
def test_names_of_bundles(values: list[str], names: list[str]) -> None:
    """A path may hold an equals sign."""
    assert list(named_bundles(values)) == names


def test_names_must_differ() -> None:
    """Else a request could not choose."""
    with pytest.raises(ValueError, match="name of its own"):
        named_bundles(["/a/b", "/c/b"])
