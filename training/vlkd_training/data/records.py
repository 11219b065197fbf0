"""The one record that every data format becomes: a picture with what people (or a generator) said of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vlkd_hub.errors import DataError

__all__ = ["Hypothesis", "QuestionAnswer", "Record", "RecordDataset", "Region"]

_FORMATS = ("JPEG", "PNG", "WEBP")
"""Pillow's decoders of other formats are old in part, and data sets come from strangers."""
_MAX_PIXELS = 25_000_000
_SAMPLE_BYTES = 1024
"""Bytes from the middle of each picture that count in the fingerprint, beside its size."""


@dataclass(frozen=True)
class QuestionAnswer:
    """A question about a picture.

    Attributes:
        question: as asked.
        answers: one; ten when ten people answered (VQAv2); several different ones are a set (DAQUAR).
        type: ``color``, ``count``, ``yes/no``...; ``None`` where the data does not say.
    """

    question: str
    answers: tuple[str, ...]
    type: str | None = None


@dataclass(frozen=True)
class Hypothesis:
    """A sentence about a picture and whether it holds: entailment / neutral / contradiction, or true / false."""

    text: str
    label: str


@dataclass(frozen=True)
class Region:
    """A named part of a picture; ``box`` is ``(left, top, right, bottom)`` in pixels."""

    box: tuple[float, float, float, float]
    tag: str


@dataclass(frozen=True)
class Record:
    """One picture, read only when asked for, with its texts.

    Attributes:
        id: unique in its split.
        captions: sentences that describe the whole picture.
        qa: questions with answers.
        hypotheses: sentences to judge.
        label: class of the picture.
        regions: boxes with names.
        image_path: file of the picture; or else
        image_bytes: the picture, still encoded; or else
        draw: makes the picture, the same each time; then ``id`` alone must tell which picture it is.
    """

    id: str
    captions: tuple[str, ...] = ()
    qa: tuple[QuestionAnswer, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    label: str | None = None
    regions: tuple[Region, ...] = ()
    image_path: Path | None = None
    image_bytes: bytes | None = None
    draw: Callable[[], Image.Image] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.image_path, self.image_bytes, self.draw)) != 1:
            raise DataError(f"Record {self.id!r} needs its picture as a path, as bytes or as draw: exactly one.")

    def load_image(self) -> Image.Image:
        """Decode the picture as RGB; transparent parts become white.

        Raises:
            DataError: the file is missing, broken, of another format than JPEG, PNG and WebP, or too large.
        """
        if self.draw is not None:
            return self.draw()
        source = self.image_path if self.image_path is not None else io.BytesIO(self.image_bytes or b"")
        try:
            with Image.open(source, formats=_FORMATS) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels, and at most 25 million are read")
                return _as_rgb(picture)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            where = self.image_path or f"{len(self.image_bytes or b'')} bytes"
            reason = f"it is no {', '.join(_FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
            raise DataError(
                f"The picture of record {self.id!r} cannot be read ({where}): {reason}. Replace or drop it."
            ) from error

    def texts(self) -> list[object]:
        """Everything but the picture, in a fixed order, as JSON can write it."""
        return [
            self.id,
            self.captions,
            [(item.question, item.answers, item.type) for item in self.qa],
            [(item.text, item.label) for item in self.hypotheses],
            self.label,
            [(item.box, item.tag) for item in self.regions],
        ]


class RecordDataset(Sequence[Record]):
    """Records of one split, by position; pictures stay on disk until :meth:`Record.load_image`.

    Args:
        records: in order; a list, or a sequence that builds each record when it is asked for.
        name: what to call the set in messages, for example ``"data/test"``.

    Raises:
        DataError: there is no record.
    """

    def __init__(self, records: Sequence[Record], name: str = "data") -> None:
        if not len(records):
            raise DataError(f"{name} holds no record.")
        self.records = records
        self.name = name
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]  # int -> Record, slice -> list, as a list does
        return self.records[row]

    def __iter__(self) -> Iterator[Record]:
        return (self.records[row] for row in range(len(self.records)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the records' texts and samples of their pictures: the same wherever and whenever copied.

        Of a picture file count its size and 1 KiB from its middle, so that a large set is not read whole.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for record in self:
                digest.update(json.dumps(record.texts(), ensure_ascii=False).encode())
                digest.update(_picture_sample(record))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _picture_sample(record: Record) -> bytes:
    if record.draw is not None:
        return b""  # its id, which is among the texts, tells which picture it is
    if record.image_bytes is not None:
        return hashlib.sha256(record.image_bytes).digest()
    path = record.image_path
    assert path is not None  # Record.__post_init__
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, (size - _SAMPLE_BYTES) // 2))
            return size.to_bytes(8, "little") + file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise DataError(f"The picture of record {record.id!r} cannot be read ({path}): {error}.") from error
