"""The replicas together, in one process: the same answers as the server that has everything in it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from vlkd_hub.bundle import read_manifest
from vlkd_serving.app import create_app
from vlkd_serving.engine import Engine
from vlkd_serving.errors import UnavailableError
from vlkd_serving.index import LiveIndex
from vlkd_serving.index.build import build_index
from vlkd_serving.index.errors import WhereTimeoutError
from vlkd_serving.index.generation import Generation
from vlkd_serving.index.reshape import split
from vlkd_serving.index.scan import scan_folder
from vlkd_serving.index.where import Condition
from vlkd_serving.loading import MATCHING, SERVED, load_model, model_source
from vlkd_serving.scale.replicas import DecoderReplica, EncoderReplica, Ingress, ShardReplica
from vlkd_serving.scale.settings import ScaleSettings


@pytest.fixture
def built(tmp_path: Path, tiny_bundle: Path, pictures: Path) -> Path:
    """An index of three pictures by the tiny student."""
    loaded = load_model(tiny_bundle)
    build_index(tmp_path / "whole", loaded.student, loaded.fingerprint, scan_folder(pictures), pictures)
    return tmp_path / "whole"


@pytest.fixture
def alone(tiny_bundle: Path, built: Path) -> Iterator[Any]:
    """`vlkd serve`."""
    settings = ScaleSettings(model=str(tiny_bundle)).server
    source = model_source(tiny_bundle.name, tiny_bundle, at_once=True)
    engine = Engine([source], settings, LiveIndex(built, source.fingerprint))
    with TestClient(create_app(settings, engine), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def together(tiny_bundle: Path, built: Path, local_handle: Callable[[Any], Any]) -> Iterator[Any]:
    """The same from an ingress, an encoder, a decoder and two shards."""
    shards = [built.with_name("shard-0"), built.with_name("shard-1")]
    split(built, shards)
    settings = ScaleSettings(model=str(tiny_bundle), shards=tuple(map(str, shards)))
    fingerprint = read_manifest(tiny_bundle).fingerprint
    encoder = local_handle(EncoderReplica(settings))
    decoder = local_handle(DecoderReplica(settings, encoder))
    searchers = [local_handle(ShardReplica(settings, str(shard), fingerprint)) for shard in shards]
    ingress = Ingress(settings, encoder, decoder, searchers)
    with TestClient(ingress.__serve_build_asgi_app__(), raise_server_exceptions=False) as client:
        yield client


def without_time(answer: Any) -> Any:
    body = answer.json()
    body.pop("latency_ms", None)
    body.get("error", {}).pop("request_id", None)
    return answer.status_code, body


def test_every_task_answers_alike(alone: Any, together: Any, picture_bytes: Callable[..., bytes]) -> None:
    """Same schemas, same statuses, same numbers."""
    picture = base64.b64encode(picture_bytes("blue", size=(80, 60))).decode()
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/caption", {"image": picture}),
        ("/v1/caption", {"image": picture, "num_beams": 3, "max_new_tokens": 5}),
        ("/v1/vqa", {"image": picture, "question": "what color is the circle?"}),
        ("/v1/classify", {"image": picture, "labels": ["red", "blue"], "template": "a {} circle"}),
        ("/v1/embeddings", {"input": ["a red circle", f"data:image/png;base64,{picture}"]}),
        ("/v1/search", {"text": "a red circle", "k": 3}),
        ("/v1/search", {"image": picture, "text": "red", "weights": [0.3, 0.7], "k": 2, "offset": 1}),
        ("/v1/search", {"text": "red", "where": "class = 'field'"}),
    ]
    for path, body in asked:
        expected, found = without_time(alone.post(path, json=body)), without_time(together.post(path, json=body))
        if path == "/v1/search":  # the sum over two shards of one generation each
            assert (expected[1].pop("generation"), found[1].pop("generation")) == (1, 2)
        assert found == expected and expected[0] == 200, path


def test_words_are_matched_in_an_encoder(
    smke_bundle: Path, local_handle: Callable[[Any], Any], picture_bytes: Callable[..., bytes]
) -> None:
    """As `vlkd serve --match-words`; without the option, and for a picture that cannot be read, the same words too."""
    picture = {"image": base64.b64encode(picture_bytes("blue", size=(80, 60))).decode(), "text": "a red circle"}
    asked = [picture, picture | {"text": ""}, picture | {"image": "!"}]
    for wanted in (True, False):
        graphs = (*SERVED, *MATCHING) if wanted else SERVED
        source = model_source(smke_bundle.name, smke_bundle, at_once=True, graphs=graphs)
        settings = ScaleSettings(model=str(smke_bundle), match_words=wanted)
        ingress = Ingress(settings, local_handle(EncoderReplica(settings)), None, [])
        apps = create_app(settings.server, Engine([source], settings.server)), ingress.__serve_build_asgi_app__()
        with TestClient(apps[0]) as alone, TestClient(apps[1]) as together:
            assert together.get("/readyz").status_code == 200
            answers = [
                [without_time(client.post("/v1/match", json=body)) for body in asked] for client in (alone, together)
            ]
        assert answers[0] == answers[1]
        assert [status for status, _ in answers[0]] == ([200, 400, 422] if wanted else [404, 400, 404])
        assert not wanted or [word["text"] for word in answers[0][0][1]["words"]] == ["a", "red", "circle"]


def test_mistakes_answer_alike(alone: Any, together: Any) -> None:
    """Wherever the mistake is found, in the ingress, an encoder, a decoder or a shard, it is told in the same words."""
    broken = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(10)).decode()
    asked: list[tuple[str, dict[str, Any], int]] = [
        ("/v1/caption", {"image": broken}, 422),
        ("/v1/caption", {"image": "!"}, 422),
        ("/v1/vqa", {"image": broken, "question": "what?"}, 422),
        ("/v1/search", {"text": "red", "where": "class ="}, 422),
        ("/v1/search", {"text": "red", "k": 1000}, 422),
        ("/v1/embeddings", {"input": []}, 400),
        ("/v1/caption", {"image": broken, "model": "other"}, 404),
    ]
    for path, body, status in asked:
        expected, found = without_time(alone.post(path, json=body)), without_time(together.post(path, json=body))
        assert found == expected and found[0] == status, (path, found, expected)


def test_pictures_models_and_health(together: Any, alone: Any) -> None:
    """The shard that has an item says where its picture lies; readiness goes through the real encoders."""
    assert together.get("/readyz").json() == {"status": "ready", "detail": None}
    assert together.get("/v1/images/red.png").content == alone.get("/v1/images/red.png").content
    assert together.get("/v1/images/none.png").status_code == 404
    assert together.get("/v1/models").json()["data"][0]["id"] == "bundle"
    assert together.put("/v1/index/items/x", json={"text": "red"}).status_code == 403


def test_each_replica_opens_only_its_graphs(tiny_bundle: Path) -> None:
    """An encoder without the decoder's weights, and the other way round: that is what makes them small."""
    from vlkd_hub.runtime import OnnxStudent

    def opened(*graphs: str) -> set[str]:
        return set(OnnxStudent.from_pretrained(tiny_bundle, threads=1, graphs=graphs).sessions)

    assert opened("image_encoder", "text_encoder") == {"image_encoder", "text_encoder"}
    assert opened("cross_attention", "decoder") == {"cross_attention", "decoder"} and opened() == set()


def test_a_server_without_shards_does_not_search(tiny_bundle: Path, local_handle: Callable[[Any], Any]) -> None:
    """503 with what to do, as `vlkd serve` without an index."""
    settings = ScaleSettings(model=str(tiny_bundle))
    encoder = local_handle(EncoderReplica(settings))
    decoder = local_handle(DecoderReplica(settings, encoder))
    ingress = Ingress(settings, encoder, decoder, [])
    with TestClient(ingress.__serve_build_asgi_app__(), raise_server_exceptions=False) as client:
        answer = client.post("/v1/search", json={"text": "red"})
    assert answer.status_code == 503 and "start it with shards" in answer.json()["error"]["message"]


def test_a_filter_that_takes_too_long_is_422_in_shards_too(together: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shard keeps to the limit of `vlkd serve` and to the request's own time."""
    seen: list[Any] = []

    def selected(self: Generation, condition: Condition) -> None:
        seen.append(condition.seconds_left)
        raise WhereTimeoutError

    monkeypatch.setattr(Generation, "selected", selected)
    for headers in ({}, {"X-Timeout-Ms": "3000"}):
        answer = together.post("/v1/search", json={"text": "red", "where": "n = 1"}, headers=headers)
        assert answer.status_code == 422 and "takes too long" in answer.json()["error"]["message"]
    assert None not in seen and 5 < seen[0] <= 10 and 0 < seen[-1] <= 3


class LostShard:
    """A shard without a live replica, or one that hangs."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def search(self, *_: Any) -> Any:
        await asyncio.sleep(self._seconds)
        return UnavailableError("A part of the server cannot start; retry later.")


@pytest.mark.parametrize(("seconds", "status"), [(0.0, 503), (60.0, 504)])
def test_part_of_the_index_is_never_passed_as_the_whole(
    tiny_bundle: Path, built: Path, local_handle: Callable[[Any], Any], seconds: float, status: int
) -> None:
    """With one shard out of reach the search fails in its time; it does not quietly leave out what that shard holds."""
    settings = ScaleSettings(model=str(tiny_bundle))
    encoder = local_handle(EncoderReplica(settings))
    whole = ShardReplica(settings, str(built), read_manifest(tiny_bundle).fingerprint)
    shards = [local_handle(whole), local_handle(LostShard(seconds))]
    ingress = Ingress(settings, encoder, local_handle(DecoderReplica(settings, encoder)), shards)
    with TestClient(ingress.__serve_build_asgi_app__(), raise_server_exceptions=False) as client:
        answer = client.post("/v1/search", json={"text": "red"}, headers={"X-Timeout-Ms": "2000"})
    assert answer.status_code == status and "results" not in answer.json()
