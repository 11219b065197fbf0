"""What serving asks of a student. ``vlkd_hub.runtime.OnnxStudent`` answers it; tests answer it with a fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Student"]


class Student(Protocol):
    """A model that embeds, captions and answers; every method takes a batch."""

    def embed_images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        """(N, D) L2-normalised embeddings of N RGB pictures."""

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) L2-normalised embeddings of N texts."""

    def caption(
        self, images: list[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> Sequence[str]:
        """One caption a picture; None keeps the model's own setting."""

    def answer(
        self,
        images: list[Image.Image],
        questions: list[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> Sequence[str]:
        """One short answer a (picture, question) pair."""
