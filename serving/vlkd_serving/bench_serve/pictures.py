"""Pictures for the bench: JPEGs of the usual size, each different, so that no cache answers."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["draw_jpegs", "embedding_body"]


def draw_jpegs(count: int, size: tuple[int, int] = (500, 375), seed: int = 0) -> list[bytes]:
    """``count`` JPEGs (quality 90) with smooth colour, shapes and some noise, about as large as photographs.

    Args:
        count: how many; all differ.
        size: width and height, pixels.
        seed: of what is drawn.
    """
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        corners = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        image = corners.resize(size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            left, top = (int(random.integers(0, limit)) for limit in size)
            right, bottom = left + int(random.integers(10, 160)), top + int(random.integers(10, 160))
            draw.ellipse((left, top, right, bottom), fill=tuple(int(v) for v in random.integers(0, 256, 3)))
        noise = random.normal(0, 6, (size[1], size[0], 1))
        pixels = np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def embedding_body(picture: bytes, **extra: str) -> bytes:
    """The OpenAI request that embeds a picture, with ``extra`` fields for servers that need some."""
    url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
    return json.dumps({"input": url, "encoding_format": "base64", **extra}).encode()
