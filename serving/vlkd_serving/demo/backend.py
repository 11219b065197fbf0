"""What the page asks for, and the two ways to get it: from a running server, or in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from PIL import Image

from vlkd_hub._optional import require
from vlkd_hub.errors import VlkdError
from vlkd_hub.runtime.matching import MatchedWord, WordMatch
from vlkd_serving.images import PictureLimits, decode_picture
from vlkd_serving.index import Hit, LiveIndex
from vlkd_serving.protocol import Student
from vlkd_serving.schemas.base import PIXEL
from vlkd_serving.texts import require_text

__all__ = ["DemoBackend", "DemoError", "Found", "HttpBackend", "LocalBackend", "example_pictures"]

MAX_TEXT_CHARS = 1000
TIMEOUT_S = 60.0
_LIMITS = PictureLimits()
_NO_INDEX = "There is no index to search. Start the demo with --index DIR, made by `vlkd index build`."


class DemoError(VlkdError):
    """A message to show to the person at the page."""


@dataclass(frozen=True)
class Found:
    """One picture of an answer."""

    id: str
    score: float
    picture: Image.Image
    captions: tuple[str, ...] = field(default=())


class DemoBackend(Protocol):
    """The page's questions. Each may raise a :class:`VlkdError` whose message is shown."""

    def search_text(self, text: str, k: int) -> list[Found]:
        """The k pictures that fit a text best."""

    def search_picture(self, content: bytes, k: int) -> list[Found]:
        """The k pictures most like an encoded picture."""

    def caption(self, content: bytes) -> str:
        """A sentence about an encoded picture."""

    def answer(self, content: bytes, question: str) -> str:
        """A short answer about an encoded picture."""

    def matches_words(self) -> bool:
        """Whether the model finds words in pictures; it raises nothing."""

    def match_words(self, content: bytes, text: str) -> WordMatch:
        """Where in an encoded picture each word of a text is."""


class LocalBackend:
    """The student and the index in this process.

    Args:
        student: the model.
        index: what to search, or None.
    """

    def __init__(self, student: Student, index: LiveIndex | None) -> None:
        self._student = student
        self._index = index

    def search_text(self, text: str, k: int) -> list[Found]:
        """See :class:`DemoBackend`."""
        index = self._require_index()
        query = self._student.embed_texts([require_text(text, "text", MAX_TEXT_CHARS)])[0]
        return self._found(index, index.current.search(query, k))

    def search_picture(self, content: bytes, k: int) -> list[Found]:
        """See :class:`DemoBackend`."""
        index = self._require_index()
        query = self._student.embed_images([decode_picture(content, _LIMITS)])[0]
        return self._found(index, index.current.search(query, k))

    def caption(self, content: bytes) -> str:
        """See :class:`DemoBackend`."""
        return self._student.caption([decode_picture(content, _LIMITS)])[0]

    def answer(self, content: bytes, question: str) -> str:
        """See :class:`DemoBackend`."""
        question = require_text(question, "question", MAX_TEXT_CHARS)
        return self._student.answer([decode_picture(content, _LIMITS)], [question])[0]

    def matches_words(self) -> bool:
        """See :class:`DemoBackend`."""
        return self._student.matches_words

    def match_words(self, content: bytes, text: str) -> WordMatch:
        """See :class:`DemoBackend`."""
        text = require_text(text, "text", MAX_TEXT_CHARS)
        return self._student.match_words(decode_picture(content, _LIMITS), text)

    def _require_index(self) -> LiveIndex:
        if self._index is None:
            raise DemoError(_NO_INDEX)
        self._index.refresh()
        return self._index

    def _found(self, index: LiveIndex, hits: list[Hit]) -> list[Found]:
        found = []
        for hit in hits:
            path = index.current.picture_path(hit.item.id)
            if path is not None:
                picture = decode_picture(path.read_bytes(), _LIMITS)
                found.append(Found(hit.item.id, hit.score, picture, _captions(hit.item.metadata)))
        return found


class HttpBackend:
    """A server that ``vlkd serve`` runs.

    Args:
        url: for example ``http://127.0.0.1:8000``.
    """

    def __init__(self, url: str) -> None:
        self._httpx: ModuleType = require("httpx", "demo")
        self._url = url
        self._client = self._httpx.Client(base_url=url, timeout=TIMEOUT_S)

    def search_text(self, text: str, k: int) -> list[Found]:
        """See :class:`DemoBackend`."""
        return self._found(self._ask("POST", "/v1/search", json={"text": text, "k": k}).json())

    def search_picture(self, content: bytes, k: int) -> list[Found]:
        """See :class:`DemoBackend`."""
        answer = self._ask("POST", "/v1/search", files={"image": content}, data={"k": str(k)})
        return self._found(answer.json())

    def caption(self, content: bytes) -> str:
        """See :class:`DemoBackend`."""
        return str(self._ask("POST", "/v1/caption", files={"image": content}).json()["caption"])

    def answer(self, content: bytes, question: str) -> str:
        """See :class:`DemoBackend`."""
        answer = self._ask("POST", "/v1/vqa", files={"image": content}, data={"question": question})
        return str(answer.json()["answer"])

    def matches_words(self) -> bool:
        """See :class:`DemoBackend`; asked of the server with a picture of one pixel."""
        try:
            self._ask("POST", "/v1/match", json={"image": PIXEL, "text": "a"})
        except DemoError:
            return False
        return True

    def match_words(self, content: bytes, text: str) -> WordMatch:
        """See :class:`DemoBackend`."""
        answer = self._ask("POST", "/v1/match", files={"image": content}, data={"text": text}).json()
        left, top, right, bottom = answer["region"]
        return WordMatch(
            words=tuple(_word(each) for each in answer["words"]),
            rows=answer["rows"],
            columns=answer["columns"],
            region=(left, top, right, bottom),
        )

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        try:
            response = self._client.request(method, path, **body)
        except self._httpx.HTTPError:
            raise DemoError(f"The server at {self._url} does not answer. Is `vlkd serve` running there?") from None
        if response.status_code == 200:
            return response
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"The server at {self._url} answered {response.status_code}; is it a vlkd server?"
        raise DemoError(message)

    def _found(self, answer: dict[str, Any]) -> list[Found]:
        found = []
        for result in answer["results"]:
            if result["image_url"] is not None:
                picture = decode_picture(self._ask("GET", result["image_url"]).content, _LIMITS)
                found.append(Found(result["id"], result["score"], picture, _captions(result["metadata"])))
        return found


def _word(answer: dict[str, Any]) -> MatchedWord:
    attention = answer["attention"]
    return MatchedWord(
        text=answer["text"],
        start=answer["start"],
        end=answer["end"],
        scores=np.array(answer["scores"], np.float32),
        top=tuple((patch["row"], patch["column"]) for patch in answer["top"]),
        attention=None if attention is None else np.array(attention, np.float32),
    )


def _captions(metadata: dict[str, Any]) -> tuple[str, ...]:
    captions = metadata.get("captions")
    return tuple(str(caption) for caption in captions) if isinstance(captions, list) else ()


def example_pictures(backend: DemoBackend, folder: Path | None, count: int) -> list[Found]:
    """Pictures to start with: those of a folder, else some of the index, else none.

    Args:
        backend: asked for pictures where ``folder`` is None.
        folder: PNG files to use instead.
        count: how many at most.
    """
    if folder is not None:
        paths = sorted(folder.glob("*.png"))[:count]
        return [Found(path.stem, 1.0, decode_picture(path.read_bytes(), _LIMITS)) for path in paths]
    try:
        return backend.search_text("a picture", count)
    except VlkdError:
        return []
