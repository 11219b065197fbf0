"""Captions with pictures as an endless stream: larger than any memory, several readers, a place to go on from."""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info

from vlkd_hub.errors import DataError

from .data.collate import CaptionCollator, PictureSource
from .data.hub import hub_pieces, read_hub
from .data.open import data_format, stream_records
from .data.records import Record
from .data.webdataset import read_shard, shard_paths
from .encoders import tokenize

__all__ = ["CaptionStream", "StreamCollator", "StreamRow"]

Piece = Callable[[], Iterable[Record]]
_EMPTY_PASSES = 10
"""A reader's share may be empty in one pass where data is tiny; in so many, there is none."""
_BROKEN = 0.01
"""Share of the pictures that may be unreadable before a run stops."""
_BROKEN_AT_FIRST = 20
"""So many may be, whatever their share."""

logger = logging.getLogger("vlkd.training")


class StreamRow(NamedTuple):
    """One caption with its picture, still encoded.

    Attributes:
        record: the picture.
        caption: one of its captions.
        place: ``(seed of the stream, reader, pass, number in that pass)``: seeds what a collator draws for the row, and
            is where a resumed run goes on.
    """

    record: Record
    caption: str
    place: tuple[int, int, int, int]


class CaptionStream(IterableDataset[StreamRow]):
    """Rows in an order that depends on the seed, the number of readers and nothing else; it never ends.

    Every worker of every process is a reader. The pieces (shards) are shuffled anew in each pass and dealt to the
    readers; each reader shuffles what it reads within a buffer. A resumed run goes on with the same rows: of the pass
    that was broken off, it reads past what was trained, without decoding a picture.

    Args:
        data: any data set that can be streamed; ``webdataset:`` and sharded ``datasets`` are read piece by piece.
        split: of the data.
        seed: of the order.
        buffer: rows to shuffle among.
        limit: use only the first records of each piece; ``None`` for all.
    """

    def __init__(
        self, data: str, split: str = "train", *, seed: int = 0, buffer: int = 1000, limit: int | None = None
    ) -> None:
        self.data, self.split, self.seed, self.buffer, self.limit = data, split, seed, buffer, limit
        self.rank, self.world, self.batches_done = 0, 1, 0
        self.done: dict[int, tuple[int, int]] = {}
        self.pieces = _pieces(data, split)

    def place(self, rank: int, world: int) -> None:
        """Say which process reads; called by the trainer."""
        self.rank, self.world = rank, world

    def resume_at(self, batches: int, done: dict[int, tuple[int, int]]) -> None:
        """Start after that many batches of this process; called by the trainer.

        Args:
            batches: how many were trained: the next one comes from the worker whose turn it is.
            done: for each reader its pass, and how many rows of that pass were trained.
        """
        self.batches_done, self.done = batches, done

    def __iter__(self) -> Iterator[StreamRow]:
        """Read as one worker; batches come from the workers in turn, and a resumed run keeps the turn."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        worker = (worker + self.batches_done) % workers
        reader, readers = self.rank * workers + worker, self.world * workers
        first, skipped = self.done.get(reader, (0, 0))
        empty = 0
        for epoch in count(first):
            number = -1
            for number, (record, caption) in enumerate(self._shuffled(reader, readers, epoch)):
                if epoch > first or number >= skipped:
                    yield StreamRow(record, caption, (self.seed, reader, epoch, number))
            empty = 0 if number >= 0 else empty + 1
            if empty == _EMPTY_PASSES:
                raise DataError(f"{self.data} ({self.split}): reader {reader} of {readers} found no caption in a pass.")

    def _shuffled(self, reader: int, readers: int, epoch: int) -> Iterator[tuple[Record, str]]:
        rng = np.random.default_rng([self.seed, epoch, reader, readers])
        waiting: list[tuple[Record, str]] = []
        for row in self._in_order(reader, readers, epoch):
            if len(waiting) < self.buffer:
                waiting.append(row)
                continue
            at = int(rng.integers(self.buffer))
            waiting[at], row = row, waiting[at]
            yield row
        for at in rng.permutation(len(waiting)):
            yield waiting[at]

    def _in_order(self, reader: int, readers: int, epoch: int) -> Iterator[tuple[Record, str]]:
        """One pass over this reader's share; fewer pieces than readers are split by turns."""
        turns = -(-readers // len(self.pieces))  # readers to a piece
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pieces) * turns)
        for share in order[reader::readers]:
            piece, turn = divmod(int(share), turns)
            for record in islice(self.pieces[piece](), turn, self.limit, turns):
                for caption in record.captions:
                    yield record, caption


def _pieces(data: str, split: str) -> list[Piece]:
    kind = data_format(data)
    if kind == "webdataset":
        return [functools.partial(read_shard, path) for path in shard_paths(data, split)]
    if kind == "hub":
        number = hub_pieces(data, split)
        return [functools.partial(read_hub, data, split, (piece, number)) for piece in range(number)]
    return [functools.partial(stream_records, data, split)]


class StreamCollator:
    """Batches of a stream for :class:`vlkd_training.methods.VLKDMethod`: pixels, corrupted text, whole text.

    The teacher is asked while the student trains, so its own words come along in ``teacher_input_ids``. Of millions of
    pictures from the web some cannot be read: such a row becomes a copy of another one of its batch, which the contrast
    does not count as a negative.

    Args:
        tokenizer: the student's.
        image_processor: makes pixels; ``None`` for text alone.
        teacher_tokenizer: the teacher's; ``None`` where no teacher is asked.
        **options: of :class:`vlkd_training.data.collate.CaptionCollator`.
    """

    def __init__(self, tokenizer: Any, image_processor: Any, teacher_tokenizer: Any, **options: Any) -> None:
        self.tokenizer, self.image_processor, self.teacher_tokenizer = tokenizer, image_processor, teacher_tokenizer
        self.options = options
        self.seen = self.broken = 0

    def __call__(self, rows: Sequence[StreamRow]) -> dict[str, torch.Tensor]:
        """Return what the method and the student need; what is drawn depends on the rows alone.

        Raises:
            DataError: too many pictures cannot be read; the last of them is named.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(repr([row.place for row in rows]).encode()))
            return self._collate(rows) | {"stream_place": torch.tensor(rows[-1].place[1:])}

    def _collate(self, rows: Sequence[StreamRow]) -> dict[str, torch.Tensor]:
        pictures = None
        if self.image_processor is not None:
            rows, decoded = self._readable(rows)
            pictures = PictureSource(records=decoded, image_processor=self.image_processor)
        texts = _Texts([row.caption for row in rows])
        make = CaptionCollator(texts, self.tokenizer, pictures, None, **self.options)
        found = make(range(len(rows)))
        if pictures is not None:
            found["image_ids"] = torch.tensor([zlib.crc32(row.record.id.encode()) for row in rows])
        if self.teacher_tokenizer is not None:
            found["clean_input_ids"], found["clean_attention_mask"] = make.encoder_inputs(make.tokens)
            words = tokenize(self.teacher_tokenizer, texts.texts)
            found |= {f"teacher_{name}": value for name, value in words.items()}
        return found

    def _readable(self, rows: Sequence[StreamRow]) -> tuple[list[StreamRow], list[_Decoded]]:
        """The rows with their pictures decoded; those that cannot be, replaced by others of the batch."""
        found = [self._decoded(row.record) for row in rows]
        good = [at for at, picture in enumerate(found) if picture is not None]
        if not good:
            raise DataError(
                f"Not one of the {len(rows)} pictures of a batch can be read, record {rows[0].record.id!r}."
            )
        chosen = [at if picture is not None else good[at % len(good)] for at, picture in enumerate(found)]
        return [rows[at] for at in chosen], [picture for at in chosen if (picture := found[at]) is not None]

    def _decoded(self, record: Record) -> _Decoded | None:
        """The picture, or ``None`` where it cannot be read and not too many could not before it."""
        self.seen += 1
        try:
            return _Decoded(record.load_image())
        except DataError as error:
            self.broken += 1
            if self.broken > max(_BROKEN_AT_FIRST, _BROKEN * self.seen):
                raise DataError(
                    f"{self.broken} of {self.seen} pictures of the stream cannot be read. The last: {error}"
                ) from error
            logger.warning("%s Another picture of its batch stands in for it.", error)
            return None


class _Decoded:
    """A picture in memory, in the shape of a :class:`Record`."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image

    def load_image(self) -> Image.Image:
        return self.image


class _Texts:
    """The captions of one batch, in the shape of :class:`vlkd_training.rows.CaptionRows`."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.images = texts, list(range(len(texts)))
