"""``/v1/match``: what the student says of words and patches, over HTTP; and what those get who ask another model."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.loading import MATCHING, SERVED, load_model, model_source, require_matching
from vlkd_serving.parts import OnnxParts
from vlkd_serving.runtime import OnnxStudent

TEXT = "Two red circles on a square, a zebra."


@pytest.fixture(scope="module")
def student(smke_bundle: Path) -> OnnxStudent:
    """Opened once."""
    return OnnxStudent.from_pretrained(smke_bundle, threads=1)


@pytest.fixture
def matcher(student: OnnxStudent, make_client: Callable[..., Any]) -> Iterator[Any]:
    """A server of it."""
    yield make_client(OnnxParts(student), with_index=False)


def noise(width: int = 60, height: int = 40) -> tuple[Image.Image, bytes]:
    image = Image.effect_noise((width, height), 90).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return image, buffer.getvalue()


def test_it_answers_as_the_student(matcher: Any, student: OnnxStudent) -> None:
    """A form or JSON; every number but for its rounding, every place in the text."""
    image, content = noise()
    expected = student.match_words(image, TEXT)
    encoded = base64.b64encode(content).decode()
    answers = [
        matcher.post("/v1/match", files={"image": content}, data={"text": TEXT}),
        matcher.post("/v1/match", json={"image": encoded, "text": TEXT, "model": "fake"}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["rows"], body["columns"], body["model"]) == (4, 4, "fake")
        np.testing.assert_allclose(body["region"], expected.region, atol=1e-4)
        assert [TEXT[each["start"] : each["end"]] for each in body["words"]] == [each["text"] for each in body["words"]]
        assert "circles" in [each["text"] for each in body["words"]]
        for found, word in zip(body["words"], expected.words, strict=True):
            np.testing.assert_allclose(found["scores"], word.scores, atol=1e-4)
            np.testing.assert_allclose(found["attention"], word.attention, atol=1e-4)
            assert [(each["row"], each["column"]) for each in found["top"]] == list(word.top)
            assert [each["score"] for each in found["top"]] == sorted(np.ravel(found["scores"]), reverse=True)[:5]


def test_many_at_once_share_batches(matcher: Any, student: OnnxStudent) -> None:
    """Texts of different lengths and different pictures in one run: nobody gets another's answer."""
    asked = [(noise(40 + 7 * n, 60), " ".join(TEXT.split()[: 1 + n % 7])) for n in range(8)]

    def ask(item: Any) -> Any:
        (_, content), text = item
        return matcher.post("/v1/match", files={"image": content}, data={"text": text}).json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, asked))
    for ((image, _), text), answer in zip(asked, answers, strict=True):
        expected = student.match_words(image, text)
        for found, word in zip(answer["words"], expected.words, strict=True):
            np.testing.assert_allclose(found["scores"], word.scores, atol=2e-4)


def test_a_long_text_is_cut_at_the_models_limit(matcher: Any) -> None:
    """Its words beyond that are not in the answer; nothing fails."""
    answer = matcher.post("/v1/match", files={"image": noise()[1]}, data={"text": "red " * 100})
    assert answer.status_code == 200 and len(answer.json()["words"]) == 30  # 32 with class token and separator


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"text": " "}, 400, "text"),
        ({"text": "x" * 100_000}, 422, "text"),
        ({"text": "a\x00b"}, 422, "text"),
        ({"image": "bm90IGEgcGljdHVyZQ==", "text": "a"}, 422, "image"),
        ({"image": ""}, 422, "image"),
        ({"text": None}, 422, "text"),
        ({"k": 3}, 422, "k"),
        ({"model": "another"}, 404, "model"),
    ],
)
def test_wrong_requests(matcher: Any, body: dict[str, Any], status: int, param: str) -> None:
    """Each names its field; none reaches the model."""
    whole = {"image": base64.b64encode(noise()[1]).decode(), "text": "a red circle"} | body
    answer = matcher.post("/v1/match", json=whole)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_model_that_matches_no_words(client: Any) -> None:
    """404 with what to do; the route is documented all the same, since another model may have it."""
    answer = client.post("/v1/match", files={"image": noise()[1]}, data={"text": "a"})
    assert answer.status_code == 404
    assert "--match-words" in answer.json()["error"]["message"]
    assert "404" in client.get("/openapi.json").json()["paths"]["/v1/match"]["post"]["responses"]


def test_its_graphs_are_opened_only_when_asked_for(smke_bundle: Path, tiny_bundle: Path) -> None:
    """They would take the memory of two encoders."""
    plain: Any = model_source("smke", smke_bundle, 1).load()
    assert set(plain.student.sessions) == {"image_encoder", "text_encoder"} and not plain.matches_words
    asked: Any = model_source("smke", smke_bundle, 1, graphs=(*SERVED, *MATCHING)).load()
    assert asked.matches_words
    assert load_model(smke_bundle, 1, match_words=True).student.matches_words
    assert not load_model(tiny_bundle, 1, match_words=True).student.matches_words
    require_matching([tiny_bundle, smke_bundle])
    with pytest.raises(InvalidInputError, match="no bundle has the graphs.*vlkd export --match-words"):
        require_matching([tiny_bundle])
