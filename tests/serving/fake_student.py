"""A student that needs no weights: colours in a picture and colour words in a text share one small space.

Run as a script it is a real server on that student, in a process where torch cannot be imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from PIL import Image

from vlkd_hub.runtime.context_rows import Context
from vlkd_hub.runtime.stepwise import Step, StepwiseTexts, Written
from vlkd_serving.protocol import EncodedPicture, EncodedText, Floats

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
FINGERPRINT = "fa" * 32
POISON = (1, 2, 3)
WORDS: list[str] = []
"""Every word seen so far; a token is a place in this list."""


class FakeStudent:
    """Answers by the mean colour, as a whole student and in parts.

    ``delay_s`` makes a run of an encoder slow, ``step_s`` a step of writing; a picture of the colour POISON makes its
    batch fail. ``batches`` holds the size of each run, ``encoded`` how many pictures were encoded.
    """

    fingerprint = FINGERPRINT
    dim = 3
    precision = "fp32"
    max_tokens = 64
    tasks = ("caption", "vqa")
    matches_words = False

    def __init__(self, delay_s: float = 0.0, step_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.step_s = step_s
        self.batches: list[int] = []
        self.encoded = 0

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([each.embedding for each in self.encode_pictures([self.preprocess(i) for i in images])])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([each.embedding for each in self.encode_texts([self.tokenize(text) for text in texts])])

    def caption(self, images: Sequence[Image.Image], **_: Any) -> list[str]:
        return [f"a {_name(self.preprocess(image))} picture" for image in images]

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str], **_: Any) -> list[str]:
        pairs = zip(images, questions, strict=True)
        return [_name(self.preprocess(image)) if "color" in question else "yes" for image, question in pairs]

    def preprocess(self, image: Image.Image) -> Floats:
        return np.asarray(image.convert("RGB"), dtype=np.float32).mean(axis=(0, 1))

    def tokenize(self, text: str) -> list[int]:
        return [_token(word) for word in text.split()]

    def detokenize(self, tokens: list[int]) -> str:
        return " ".join(WORDS[token] for token in tokens)

    def build_prompt(self, task: str, question: str | None) -> str:
        return question or "describe"

    def settings(self, task: str, num_beams: int | None, max_new_tokens: int | None) -> Any:
        return (task, num_beams or 1, max_new_tokens or 20)

    def encode_pictures(self, pixels: Sequence[Floats]) -> list[EncodedPicture]:
        self._work(pixels)
        self.encoded += len(pixels)
        return [EncodedPicture(_unit(each), each[None]) for each in pixels]

    def encode_texts(self, tokens: Sequence[list[int]]) -> list[EncodedText]:
        self._work(tokens)
        texts = [self.detokenize(each) for each in tokens]
        sums = [sum((np.array(rgb) for word, rgb in COLOURS.items() if word in text), np.ones(3)) for text in texts]
        states = [np.full((1, 3), 1.0 if "color" in text else 0.0, np.float32) for text in texts]
        rows = zip(sums, states, tokens, strict=True)
        return [EncodedText(_unit(each), state, len(ids)) for each, state, ids in rows]

    def write(self, contexts: Sequence[Context], settings: Any, dropped: Collection[int]) -> StepwiseTexts:
        """A word a step; a text of fewer words leaves earlier."""
        texts = _Texts(self, settings, dropped)
        texts.join(contexts)
        return texts

    def _text(self, task: str, context: Context) -> str:
        states = np.concatenate(context)
        if task == "caption":
            return f"a {_name(states[0])} picture"
        return _name(states[0]) if states[1, 0] == 1.0 else "yes"

    def _work(self, items: Sequence[Any]) -> None:
        self.batches.append(len(items))
        time.sleep(self.delay_s)
        if any(isinstance(item, np.ndarray) and np.allclose(item, POISON) for item in items):
            raise RuntimeError("secret detail at 0x7f00dead in /srv/model.onnx")


class _Texts:
    joinable = True

    def __init__(self, student: FakeStudent, settings: Any, dropped: Collection[int]) -> None:
        self.student, self.settings, self.dropped = student, settings, dropped
        self.begun = 0
        self.texts: dict[int, list[str]] = {}
        self.read: dict[int, int] = {}

    def join(self, contexts: Sequence[Context]) -> None:
        task, _, limit = self.settings
        for row, context in enumerate(contexts, self.begun):
            self.texts[row], self.read[row] = self.student._text(task, context).split()[:limit], 0
        self.begun += len(contexts)

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        for row in self.dropped:
            self.read.pop(row, None)
        if not self.read:
            raise StopIteration
        time.sleep(self.student.step_s)
        tokens = {row: _token(self.texts[row][at]) for row, at in self.read.items()}
        self.read = {row: at + 1 for row, at in self.read.items()}
        done = [row for row, at in self.read.items() if at == len(self.texts[row])]
        for row in done:
            del self.read[row]
        return Step(tokens, {row: Written([_token(word) for word in self.texts[row]], 0.5) for row in done})


def _token(word: str) -> int:
    if word not in WORDS:
        WORDS.append(word)
    return WORDS.index(word)


def _unit(row: np.ndarray) -> np.ndarray:
    array = row.astype(np.float32) + 1e-3
    return array / np.linalg.norm(array)


def _name(colour: np.ndarray) -> str:
    return list(COLOURS)[int(colour.argmax())]


def main(port: int, index: str | None, delays: dict[str, float], writable: bool, **options: Any) -> None:
    """Serve the fake student."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # any `import torch` raises from here on
    sys.modules["transformers"] = None  # type: ignore[assignment]
    from vlkd_serving.engine import Engine
    from vlkd_serving.index import LiveIndex, LiveWriter
    from vlkd_serving.model_pool import ModelSource
    from vlkd_serving.server import run_server
    from vlkd_serving.settings import ServerSettings

    live = LiveIndex(index, FINGERPRINT) if index else None
    settings = ServerSettings(port=port, **options)
    source = ModelSource("fake", lambda: FakeStudent(**delays))
    with LiveWriter(live) if writable and live else nullcontext() as writer:
        run_server(settings, Engine([source], settings, live, writer=writer))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(given.pop("port"), given.pop("index", None), given.pop("delays", {}), given.pop("writable", False), **given)
