"""What the page asks for, in process and over HTTP: the same answers, and errors a person can use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from vlkd_hub.errors import VlkdError
from vlkd_serving.demo.backend import DemoBackend, DemoError, HttpBackend, LocalBackend, example_pictures
from vlkd_serving.index import LiveIndex


@pytest.fixture(params=["local", "http"])
def backend(
    request: pytest.FixtureRequest, index_dir: Path, fake: ModuleType, make_client: Any
) -> Iterator[DemoBackend]:
    """Both kinds, on the same student and index."""
    if request.param == "local":
        yield LocalBackend(fake.FakeStudent(), LiveIndex(index_dir, fake.FINGERPRINT))
        return
    http = HttpBackend("http://testserver")
    http._client = make_client()
    yield http


def test_both_kinds_answer_alike(backend: DemoBackend, picture_bytes: Callable[..., bytes]) -> None:
    """Pictures come back as pictures, in the order of the scores, with their captions."""
    found = backend.search_text("red", 3)
    assert [each.id for each in found][0] == "red.png" and found[0].captions == ("a red field",)
    assert found[0].score > found[1].score > found[2].score
    np.testing.assert_array_equal(np.asarray(found[0].picture)[0, 0], (255, 0, 0))
    assert backend.search_picture(picture_bytes("blue"), 1)[0].id == "more/blue.webp"
    assert backend.caption(picture_bytes("green")) == "a green picture"
    assert backend.answer(picture_bytes("green"), "what color?") == "green"


def test_errors_are_for_people(backend: DemoBackend, picture_bytes: Callable[..., bytes]) -> None:
    """The same words on both ways."""
    with pytest.raises(VlkdError, match="not a picture"):
        backend.caption(b"text")
    with pytest.raises(VlkdError, match="'question' must not be empty"):
        backend.answer(picture_bytes("red"), " ")
    with pytest.raises(VlkdError, match="'text' may have at most 1000 characters"):
        backend.search_text("x" * 1001, 3)


def test_without_an_index(fake: ModuleType, make_client: Any) -> None:
    """Search says what to do; there are no example pictures then."""
    http = HttpBackend("http://testserver")
    http._client = make_client(with_index=False)
    for backend in (LocalBackend(fake.FakeStudent(), None), http):
        with pytest.raises(VlkdError, match="--index DIR"):
            backend.search_text("red", 3)
        assert example_pictures(backend, None, 4) == []


def test_a_server_that_is_not_there_or_is_another() -> None:
    """Two clear messages instead of a stack trace."""
    with pytest.raises(DemoError, match="does not answer. Is `vlkd serve` running"):
        HttpBackend("http://127.0.0.1:9").search_text("red", 3)
    backend = HttpBackend("http://elsewhere")
    transport = httpx.MockTransport(lambda request: httpx.Response(404, text="<html>"))
    backend._client = httpx.Client(base_url="http://elsewhere", transport=transport)
    with pytest.raises(DemoError, match="answered 404; is it a vlkd server"):
        backend.search_text("red", 3)


def test_a_picture_that_has_gone_is_left_out(index_dir: Path, pictures: Path, fake: ModuleType) -> None:
    """A file deleted after the build must not break the page."""
    (pictures / "red.png").unlink()
    backend = LocalBackend(fake.FakeStudent(), LiveIndex(index_dir, fake.FINGERPRINT))
    assert {each.id for each in backend.search_text("red", 3)} == {"green.jpg", "more/blue.webp"}


def test_example_pictures_of_a_folder(repo_root: Path, fake: ModuleType) -> None:
    """Those beside the script: small, and readable by the page's own decoder."""
    folder = repo_root / "demos" / "pictures"
    examples = example_pictures(LocalBackend(fake.FakeStudent(), None), folder, 8)
    assert len(examples) == 8 and all(path.stat().st_size < 30_000 for path in folder.iterdir())


@pytest.fixture(scope="module")
def matching_student(smke_bundle: Path) -> Any:
    """One that finds words in pictures."""
    from vlkd_serving.loading import load_model

    return load_model(smke_bundle, 1, match_words=True).student


def test_words_are_found_alike_both_ways(
    matching_student: Any, make_client: Any, picture_bytes: Callable[..., bytes]
) -> None:
    """The match that the page draws is the same in process and over HTTP, but for the rounding there."""
    from vlkd_serving.parts import OnnxParts

    http = HttpBackend("http://testserver")
    http._client = make_client(OnnxParts(matching_student), with_index=False)
    local = LocalBackend(matching_student, None)
    assert http.matches_words() and local.matches_words()
    picture = picture_bytes("red", "PNG", (60, 40))
    one, other = (each.match_words(picture, "two red circles.") for each in (http, local))
    assert (one.rows, one.columns) == (other.rows, other.columns) == (4, 4)
    np.testing.assert_allclose(one.region, other.region, atol=1e-4)
    for found, expected in zip(one.words, other.words, strict=True):
        assert (found.text, found.start, found.end, found.top) == (
            expected.text,
            expected.start,
            expected.end,
            expected.top,
        )
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        assert found.attention is not None and expected.attention is not None
        np.testing.assert_allclose(found.attention, expected.attention, atol=1e-4)
    for each in (http, local):
        with pytest.raises(VlkdError, match="'text' must not be empty"):
            each.match_words(picture, " ")


def test_a_backend_that_finds_no_words(backend: DemoBackend) -> None:
    """The page has no such tab then; nor where no server is."""
    assert not backend.matches_words()
    assert not HttpBackend("http://127.0.0.1:9").matches_words()
