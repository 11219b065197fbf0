"""A student that reads the answer off the picture's colour, so that every measure of it is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlkd_hub.errors import InvalidInputError

__all__ = ["NAMES", "ColorStudent", "DualEncoder", "picture"]

NAMES = ("red", "green", "blue")


def picture(name: str) -> Image.Image:
    """A picture full of one colour."""
    return Image.new("RGB", (8, 8), tuple(255 * (name == color) for color in NAMES))


class ColorStudent:
    """Right about every colour; counts what it is asked, and keeps the longest list it was handed."""

    def __init__(self) -> None:
        self.images_embedded = 0
        self.texts_embedded: list[str] = []
        self.longest = 0
        self.beams: set[int | None] = set()

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images_embedded += len(images)
        self.longest = max(self.longest, len(images))
        return np.stack([self._unit(self._name(image)) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts_embedded += texts
        self.longest = max(self.longest, len(texts))
        return np.stack([self._unit(next(name for name in NAMES if name in text)) for text in texts])

    def caption(
        self, images: Sequence[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[str]:
        self.beams.add(num_beams)
        return [f"a picture full of bright {self._name(image)}" for image in images]

    def answer(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        self.beams.add(num_beams)
        return [
            self._name(image) if "color" in question else "yes"
            for image, question in zip(images, questions, strict=True)
        ]

    @staticmethod
    def _name(image: Image.Image) -> str:
        return NAMES[int(np.argmax(image.getpixel((0, 0))))]

    @staticmethod
    def _unit(name: str) -> np.ndarray:
        return np.eye(len(NAMES), dtype=np.float32)[NAMES.index(name)]


class DualEncoder(ColorStudent):
    """A teacher: it embeds and cannot write."""

    def caption(self, *args: object, **options: object) -> list[str]:
        raise InvalidInputError("a dual encoder cannot write")

    answer = caption  # type: ignore[assignment]
