"""What evaluation asks of a model: the methods that torch students, teachers and ONNX bundles share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

__all__ = ["Student"]


class Student(Protocol):
    """``vlkd_hub.inference.TorchStudent`` and ``vlkd_hub.runtime.OnnxStudent`` both are students."""

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Unit vectors, shape ``(len(images), dim)``."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, shape ``(len(texts), dim)``."""

    def caption(
        self, images: Sequence[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[str]:
        """One sentence a picture."""

    def answer(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """One answer for each picture and question; one picture may come several times, as the same object."""
