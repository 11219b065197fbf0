"""Golden pictures: what an exported student must treat exactly as the student it came from.

A set drawn here by integer arithmetic, of odd sizes and modes, is always used, so that the gate is never empty and
can be run again anywhere. Pictures of a data set come beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_hub.runtime import load_image
from vlkd_hub.runtime.image_processing import to_rgb

__all__ = ["TEXTS", "GoldenPicture", "drawn_pictures", "picture_digest", "read_pictures"]

SIZES: tuple[tuple[int, int], ...] = (
    (97, 64),
    (64, 97),
    (33, 33),
    (300, 200),
    (200, 300),
    (17, 141),
    (141, 17),
    (640, 480),
    (224, 224),
    (1, 9),
    (9, 1),
    (75, 74),
    (74, 75),
    (512, 16),
    (160, 159),
    (101, 257),
)
"""Width and height in pixels."""
MODES = ("RGB", "RGB", "L", "RGBA", "P", "CMYK")
COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 187, 0), (148, 103, 189), (240, 240, 240), (20, 20, 20))
QUESTIONS = (
    "What color is the circle?",
    "How many squares are there?",
    "Is there a dog in the picture?",
    "What is on the left?",
)
TEXTS = (
    "a red circle",
    "A small blue square stands left of a large green triangle.",
    "two dogs running on the beach",
    "What is this?",
    "x",
    "Colours, shapes; numbers 1 2 3 - and punctuation: 'quoted' (bracketed)!",
)


@dataclass(frozen=True)
class GoldenPicture:
    """One picture and what is asked about it."""

    name: str
    image: Image.Image
    question: str | None
    captions: tuple[str, ...] = ()

    def pixels(self) -> NDArray[np.uint8]:
        """RGB, ``(height, width, 3)``, as the processor lays transparency and other modes out."""
        return np.asarray(to_rgb(self.image))


def drawn_pictures() -> list[GoldenPicture]:
    """The set that is the same on every machine."""
    pictures = []
    for number, (width, height) in enumerate(SIZES):
        mode = MODES[number % len(MODES)]
        image = Image.fromarray(_draw(number, width, height)).convert(mode)
        if mode == "RGBA":
            ramp = np.arange(width * height, dtype=np.int64).reshape(height, width) * 255 // (width * height)
            image.putalpha(Image.fromarray(ramp.astype(np.uint8)))
        name = f"drawn-{number:02d}-{mode}-{width}x{height}"
        pictures.append(GoldenPicture(name, image, QUESTIONS[number % len(QUESTIONS)]))
    return pictures


def _draw(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """A gradient, three shapes and some noise, shape ``(height, width, 3)``.

    RandomState and not the newer Generator: only its stream is frozen for all versions of numpy.
    """
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    canvas = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
    for shape in range(3):
        centre_x, centre_y = random.randint(0, width), random.randint(0, height)
        radius = random.randint(1, max(2, min(width, height) // 2 + 1))
        dx, dy = np.abs(x - centre_x), np.abs(y - centre_y)
        inside = dx * dx + dy * dy <= radius * radius if shape % 2 == 0 else np.maximum(dx, dy) <= radius
        canvas[inside] = COLOURS[random.randint(0, len(COLOURS))]
    canvas = canvas + random.randint(-12, 13, size=canvas.shape)
    return canvas.clip(0, 255).astype(np.uint8)


def read_pictures(data: Path, split: str, count: int) -> list[GoldenPicture]:
    """The first ``count`` pictures of ``data/split/metadata.jsonl``, with one question each in turn.

    Raises:
        DataError: the file is absent or malformed, or holds no picture.
    """
    folder = data / split
    path = folder / "metadata.jsonl"
    if not path.is_file():
        raise DataError(f"{path} is absent; golden pictures come from an imagefolder: DATA/SPLIT/metadata.jsonl.")
    pictures: list[GoldenPicture] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if len(pictures) == count:
                break
            try:
                row = json.loads(line)
                questions = [item["question"] for item in row.get("qa", [])]
                question = questions[number % len(questions)] if questions else None
                name = row["file_name"]
                captions = tuple(row.get("captions", ()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path}, line {number + 1} is not a record with a file_name: {error!r}.") from error
            pictures.append(GoldenPicture(name, load_image(folder / name), question, captions))
    if not pictures:
        raise DataError(f"{path} holds no picture.")
    return pictures


def picture_digest(pictures: Sequence[GoldenPicture]) -> str:
    """SHA-256 over the pixels, modes and questions: whether two runs saw the same."""
    digest = hashlib.sha256()
    for picture in pictures:
        image = picture.image
        digest.update(f"{picture.name}|{image.mode}|{image.size}|{picture.question}|".encode())
        digest.update(image.convert("RGBA").tobytes())
    return digest.hexdigest()
