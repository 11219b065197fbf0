"""A student that needs no weights: colours in a picture and colour words in a text share one small space.

Run as a script it is a real server on that student, in a process where torch cannot be imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
FINGERPRINT = "fa" * 32
POISON = (1, 2, 3)


class FakeStudent:
    """Answers by the mean colour. ``delay_s`` makes a batch slow; a picture of the colour POISON makes it fail."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.batches: list[int] = []

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self._work(images)
        return _unit([np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self._work(texts)
        return _unit(
            [sum((np.array(rgb) for word, rgb in COLOURS.items() if word in text), np.ones(3)) for text in texts]
        )

    def caption(
        self, images: Sequence[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[str]:
        self._work(images)
        return [f"a {_name(image)} picture" for image in images]

    def answer(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        self._work(images)
        return [
            _name(image) if "color" in question else "yes" for image, question in zip(images, questions, strict=True)
        ]

    def _work(self, items: Sequence[object]) -> None:
        self.batches.append(len(items))
        time.sleep(self.delay_s)
        if any(isinstance(item, Image.Image) and item.getpixel((0, 0)) == POISON for item in items):
            raise RuntimeError("secret detail at 0x7f00dead in /srv/model.onnx")


def _unit(rows: list[np.ndarray]) -> np.ndarray:
    array = np.stack(rows).astype(np.float32) + 1e-3
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def _name(image: Image.Image) -> str:
    return list(COLOURS)[int(np.asarray(image, dtype=np.float32).mean(axis=(0, 1)).argmax())]


def main(port: int, index: str | None, delay_s: float) -> None:
    """Serve the fake student."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # any `import torch` raises from here on
    sys.modules["transformers"] = None  # type: ignore[assignment]
    from vlkd_serving.engine import Engine
    from vlkd_serving.index import LiveIndex
    from vlkd_serving.server import run_server
    from vlkd_serving.settings import ServerSettings

    live = LiveIndex(index, FINGERPRINT) if index else None
    settings = ServerSettings(port=port, model_name="fake")
    run_server(settings, Engine(FakeStudent(delay_s), settings, live))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] or None, float(sys.argv[3]))
