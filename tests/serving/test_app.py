"""The routes on a fake student: right answers, and a clear refusal of everything else."""

from __future__ import annotations

import base64
import contextvars
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from vlkd_serving.app import _call_directly

from .answers import CAPTION, EMBED, SEARCH, VQA, b64, check_error, counts


def test_search_by_text_and_by_picture(client: Any, picture_bytes: Callable[..., bytes]) -> None:
    """JSON text, JSON base64, data URL, multipart text and multipart file agree on the best picture."""
    picture = picture_bytes("blue", "JPEG")
    answers = [
        client.post("/v1/search", json={"text": "something blue", "k": 2}),
        client.post("/v1/search", json={"image": b64(picture), "k": 2}),
        client.post("/v1/search", json={"image": f"data:image/jpeg;base64,{b64(picture)}", "k": 2}),
        client.post("/v1/search", files={"image": ("x.jpg", picture)}, data={"k": "2"}),
        client.post("/v1/search", files={"k": (None, "2"), "text": (None, "something blue")}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert [result["id"] for result in body["results"]][0] == "more/blue.webp"
        assert len(body["results"]) == 2 and body["generation"] == 1 and body["latency_ms"] > 0
        assert body["results"][0]["score"] >= body["results"][1]["score"]


def test_pages_filters_and_mixed_queries(client: Any, picture_bytes: Callable[..., bytes]) -> None:
    """The index's own abilities, over HTTP."""

    def ids(**body: Any) -> list[str]:
        answer = client.post("/v1/search", json=body)
        assert answer.status_code == 200, answer.text
        return [result["id"] for result in answer.json()["results"]]

    all_ids = ids(text="red", k=3)
    assert ids(text="red", k=1, offset=1) == all_ids[1:2] and ids(text="red", k=5, offset=2) == all_ids[2:]
    assert ids(text="blue", where="class = 'field'") == ["red.png"]
    green = b64(picture_bytes("green"))
    assert ids(text="red", image=green, k=1, weights=[0.1, 1.0]) == ["green.jpg"]
    assert ids(text="red", image=green, k=1, weights=[1.0, 0.1]) == ["red.png"]
    assert set(ids(text="red", image=green, k=2)) == {"red.png", "green.jpg"}


def test_a_result_carries_metadata_and_its_picture(client: Any, pictures: Any) -> None:
    """The address in the result gives the very file."""
    best = client.post("/v1/search", json={"text": "red", "k": 1}).json()["results"][0]
    assert best["metadata"] == {"captions": ["a red field"], "class": "field"}
    picture = client.get(best["image_url"])
    assert picture.content == (pictures / "red.png").read_bytes()
    assert picture.headers["content-type"] == "image/png" and picture.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["nope.png", "../index/MANIFEST", "%2e%2e/index/MANIFEST", "..%2findex%2fMANIFEST", "/etc/passwd", "metadata.jsonl"]
    + ["%00", "red.png%00", "more", "more%2f..%2fred.png", "%2e%2fred.png", "more%2f%2fblue.webp", "a" * 5000, ""],
)
def test_only_indexed_ids_are_served(client: Any, path: str) -> None:
    """An id is looked up, never walked; existing and missing files look the same."""
    error = check_error(client.get(f"/v1/images/{path}"), 404)
    assert error["message"] == "The index has no picture with this id." or "address" in error["message"]


def test_caption_and_vqa(client: Any, picture_bytes: Callable[..., bytes]) -> None:
    """Both body kinds, with and without options."""
    picture = picture_bytes("green")
    for answer in (
        client.post("/v1/caption", files={"image": ("p.png", picture)}),
        client.post("/v1/caption", json={"image": b64(picture), "num_beams": 2, "max_new_tokens": 8}),
    ):
        assert answer.json()["caption"] == "a green picture" and answer.json()["model"] == "fake"
    for answer in (
        client.post("/v1/vqa", files={"image": ("p.png", picture)}, data={"question": "what color is it?"}),
        client.post("/v1/vqa", json={"image": b64(picture), "question": "what color is it?"}),
    ):
        assert answer.json()["answer"] == "green"


def test_embeddings_have_the_openai_shape(client: Any, picture_bytes: Callable[..., bytes]) -> None:
    """Texts and pictures keep the order of the inputs; float and base64 are the same numbers."""
    url = f"data:image/png;base64,{b64(picture_bytes('red'))}"
    inputs = ["red", url, "blue"]
    plain = client.post("/v1/embeddings", json={"input": inputs, "model": "fake"}).json()
    assert plain["object"] == "list" and plain["model"] == "fake"
    assert plain["usage"] == {"prompt_tokens": 2, "total_tokens": 2}  # one word each; a picture has none
    assert [(item["object"], item["index"]) for item in plain["data"]] == [("embedding", n) for n in range(3)]
    rows = np.array([item["embedding"] for item in plain["data"]], dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > rows[1] @ rows[2]
    coded = client.post("/v1/embeddings", json={"input": inputs, "encoding_format": "base64"}).json()
    for row, item in zip(rows, coded["data"], strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(item["embedding"]), "<f4"), row)
    one = client.post("/v1/embeddings", json={"input": "red", "dimensions": 3}).json()
    np.testing.assert_allclose(one["data"][0]["embedding"], rows[0], atol=1e-6)


def test_unknown_addresses_and_methods(client: Any) -> None:
    """Also in the one shape."""
    check_error(client.get("/nothing"), 404)
    check_error(client.get(SEARCH), 405)
    check_error(client.delete("/healthz"), 405)


def test_request_ids(client: Any) -> None:
    """A safe one from the client is kept, any other replaced."""
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/healthz", headers={"x-request-id": "bad id\t"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_one_poisoned_picture_of_eight(client: Any, fake: ModuleType, picture_bytes: Callable[..., bytes]) -> None:
    """Seven answers, one 422 without a word of the model's insides, and the next request is fine."""
    contents = [picture_bytes("red")] * 7 + [picture_bytes(fake.POISON)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda c: client.post(CAPTION, files={"image": ("x.png", c)}), contents))
    assert [answer.status_code for answer in answers[:7]] == [200] * 7
    assert check_error(answers[7], 422, "image")["code"] == "invalid_input"
    assert client.post(CAPTION, files={"image": ("x.png", contents[0])}).status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("core_workers", [1, 2])
def test_concurrent_answers_are_not_mixed_up(
    make_client: Callable[..., Any], fake: ModuleType, picture_bytes: Any, core_workers: int
) -> None:
    """60 requests of three kinds at once: each gets its own answer, and batches really form."""
    student = fake.FakeStudent(delay_s=0.01)
    client = make_client(student, core_workers=core_workers)
    colours = ["red", "green", "blue"] * 20

    def ask(numbered: tuple[int, str]) -> bool:
        number, colour = numbered
        if number % 2:
            found = client.post(SEARCH, json={"text": colour, "k": 1}).json()["results"][0]["id"]
            return colour in found
        return colour in client.post(CAPTION, files={"image": ("x.png", picture_bytes(colour))}).json()["caption"]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, enumerate(colours)))
    assert max(student.batches) > 1


def test_overload_is_429_with_retry_after(make_client: Callable[..., Any], fake: ModuleType) -> None:
    """Room for two: of ten at once some are turned away, none hangs, and afterwards there is room again."""
    client = make_client(fake.FakeStudent(delay_s=0.1), max_inflight=2)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.post(SEARCH, json={"text": "red"}), range(10)))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            check_error(answer, 429)
            assert int(answer.headers["retry-after"]) >= 1
    assert client.post(SEARCH, json={"text": "red"}).status_code == 200
    assert client.post(EMBED, json={"input": ["a", "b", "c"]}).status_code == 200  # larger than the limit: alone


def test_deadline_is_504(make_client: Callable[..., Any], fake: ModuleType) -> None:
    """An answer that comes too late is not waited for."""
    client = make_client(fake.FakeStudent(delay_s=0.4), deadline_s=0.1)
    check_error(client.post(SEARCH, json={"text": "red"}), 504)


def test_without_an_index(make_client: Callable[..., Any], picture_bytes: Callable[..., bytes]) -> None:
    """Search says how to start the server with one; the rest works."""
    client = make_client(with_index=False)
    assert "--index" in check_error(client.post(SEARCH, json={"text": "red"}), 503)["message"]
    check_error(client.get("/v1/images/red.png"), 503)
    assert client.post(CAPTION, files={"image": ("x.png", picture_bytes("red"))}).status_code == 200
    assert client.get("/readyz").json()["status"] == "ready"


def test_readiness_is_truthful(make_client: Callable[..., Any], fake: ModuleType, index_dir: Any) -> None:
    """Ready, then draining; and a model that fails on everything is not ready."""
    client = make_client()
    assert client.get("/readyz").json() == {"status": "ready", "detail": None}
    client.app.state.engine.begin_drain()
    check_error(client.get("/readyz"), 503)
    error = check_error(client.post(SEARCH, json={"text": "red"}), 503)
    assert "draining" in error["message"] and client.get("/healthz").status_code == 200

    student = fake.FakeStudent()
    sick = make_client(student)
    student.encode_pictures = lambda pixels: 1 / 0  # type: ignore[method-assign]
    check_error(sick.get("/readyz"), 503)


def test_a_damaged_index_is_served_from_the_generation_before(make_client: Callable[..., Any], index_dir: Any) -> None:
    """Readiness says degraded, the metric too, and search works."""
    from vlkd_serving.index import IndexReader, IndexWriter

    with IndexWriter(index_dir, IndexReader.open(index_dir).manifest.fingerprint) as writer:
        writer.remove(["red.png"])
    (index_dir / "gen-000002" / "vectors.faiss").write_bytes(b"x")
    client = make_client()
    assert client.get("/readyz").json()["status"] == "degraded"
    assert "vlkd_index_degraded 1.0" in client.get("/metrics").text
    assert client.post(SEARCH, json={"text": "red", "k": 1}).json()["results"][0]["id"] == "red.png"


def test_a_new_generation_is_picked_up(make_client: Callable[..., Any], index_dir: Any) -> None:
    """The server follows the index without a restart."""
    from vlkd_serving.index import IndexReader, IndexWriter

    client = make_client(index_poll_s=0.05)
    with IndexWriter(index_dir, IndexReader.open(index_dir).manifest.fingerprint) as writer:
        writer.remove(["red.png"])
    until = time.monotonic() + 5
    while client.post(SEARCH, json={"text": "red"}).json()["generation"] != 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert "vlkd_index_generation 2.0" in client.get("/metrics").text


def test_metrics_name_what_happened(client: Any) -> None:
    """The names of the dashboard."""
    before = counts(client.get("/metrics").text)
    client.post(SEARCH, json={"text": "red"})
    client.post(SEARCH, json={"text": ""})
    client.get("/nothing")
    text = client.get("/metrics").text
    for line in (
        'vlkd_requests_total{code="200",route="/v1/search"} 1.0',
        'vlkd_requests_total{code="400",route="/v1/search"} 1.0',
        'vlkd_requests_total{code="404",route="unmatched"} 1.0',
        "vlkd_inflight 0.0",
        'vlkd_queue_depth{part="text_encoder"} 0.0',
        "vlkd_index_generation 1.0",
    ):
        assert line in text, text
    for name in ("vlkd_queue_seconds", "vlkd_batch_size", "vlkd_infer_seconds"):
        series = f'{name}_count{{part="text_encoder"}}'
        assert counts(text)[series] == before[series] + 1


def test_openapi_describes_bodies_answers_and_errors(client: Any) -> None:
    """The documentation page has what a client needs; its examples are valid requests."""
    document = client.get("/openapi.json").json()
    for path in (SEARCH, CAPTION, VQA, EMBED):
        operation = document["paths"][path]["post"]
        assert "application/json" in operation["requestBody"]["content"]
        assert {"200", "400", "413", "415", "422", "429", "503", "504"} <= set(operation["responses"])
        properties = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        example = {name: field["examples"][0] for name, field in properties.items() if "examples" in field}
        assert client.post(path, json=example).status_code == 200, example
    taken = document["paths"][CAPTION]["post"]["requestBody"]["content"]
    assert set(taken) == {"application/json", "multipart/form-data", "image/*", "application/octet-stream"}
    assert client.get("/docs").status_code == 200


def _refuse() -> None:
    raise HTTPException(403)


async def _own(request: Request) -> Response:
    return Response("own")


async def _with_parameter(request: Request, k: int) -> Response:
    return Response(str(k))


def test_only_a_handler_that_reads_its_own_request_is_called_directly() -> None:
    """FastAPI would do nothing for that one; for one with parameters or dependencies it does what must not be lost."""
    router = APIRouter()
    router.add_api_route("/own", _own)
    router.add_api_route("/parameter", _with_parameter)
    router.add_api_route("/dependency", _own, dependencies=[Depends(_refuse)])
    before = {route.path: route.app for route in router.routes if isinstance(route, APIRoute)}
    _call_directly(router.routes)
    changed = {route.path for route in router.routes if isinstance(route, APIRoute) and route.app != before[route.path]}
    assert changed == {"/own"}
    app = FastAPI()
    app.router.routes.extend(router.routes)
    with TestClient(app) as client:
        assert client.get("/own").text == "own" and client.get("/parameter?k=3").text == "3"
        assert client.get("/parameter").status_code == 422 and client.get("/dependency").status_code == 403


def test_a_request_of_many_is_refused_whole(
    make_client: Callable[..., Any], fake: ModuleType, picture_bytes: Callable[..., bytes]
) -> None:
    """Where there is room for a part of it, no part is begun."""
    student, begun = fake.FakeStudent(), []
    client = make_client(student, max_inflight=3, pre_workers=1)
    student.preprocess = lambda image: begun.append(image)  # type: ignore[method-assign]
    picture = b64(picture_bytes("red"))
    tensor = {"name": "image", "shape": [3], "datatype": "BYTES", "data": [picture] * 3}
    url = f"data:image/png;base64,{picture}"
    others, held = contextvars.copy_context(), client.app.state.engine.admission.admit(1)
    others.run(held.__enter__)  # as another request does: this one's own would be part of it
    try:
        many = {"inputs": [tensor], "outputs": [{"name": "caption"}]}
        check_error(client.post("/v2/models/fake/infer", json=many), 429)
        check_error(client.post(EMBED, json={"input": [url, url, "red"]}), 429)
        time.sleep(0.1)
    finally:
        others.run(held.__exit__, None, None, None)
    assert begun == []


def test_a_request_of_many_holds_its_room_as_one(
    make_client: Callable[..., Any], picture_bytes: Callable[..., bytes]
) -> None:
    """More items than fit at once run on an idle server, together: they are one request's, and counted once."""
    client = make_client(max_inflight=2)
    picture = b64(picture_bytes("red"))
    tensor = {"name": "image", "shape": [3], "datatype": "BYTES", "data": [picture] * 3}
    answer = client.post("/v2/models/fake/infer", json={"inputs": [tensor], "outputs": [{"name": "caption"}]})
    assert answer.status_code == 200 and answer.json()["outputs"][0]["shape"] == [3]
    url = f"data:image/png;base64,{picture}"
    assert client.post(EMBED, json={"input": [url, url, "red"]}).status_code == 200
    assert client.app.state.engine.admission.inflight == 0
