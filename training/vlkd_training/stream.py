"""Captions with pictures as an endless stream: larger than any memory, several readers, a place to go on from."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
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


class StreamRow(NamedTuple):
    """One caption with its picture, still encoded; ``seed`` fixes what a collator draws for it."""

    record: Record
    caption: str
    seed: tuple[int, ...]


class CaptionStream(IterableDataset[StreamRow]):
    """Rows in an order that depends on the seed, the number of readers and nothing else; it never ends.

    Every worker of every process is a reader. The pieces (shards) are shuffled anew in each pass and dealt to the
    readers; each reader shuffles what it reads within a buffer. A resumed run reads past what was trained, without
    decoding a picture, and goes on with the same rows.

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
        self.rank, self.world, self.batch_size, self.batches_done = 0, 1, 1, 0
        self.pieces = _pieces(data, split)

    def place(self, rank: int, world: int, batch_size: int) -> None:
        """Say which process reads; called by the trainer."""
        self.rank, self.world, self.batch_size = rank, world, batch_size

    def resume_at(self, batches: int) -> None:
        """Start after that many batches of this process; called by the trainer."""
        self.batches_done = batches

    def __iter__(self) -> Iterator[StreamRow]:
        """Read as one worker; batches come from the workers in turn, and a resumed run keeps the turn."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        worker = (worker + self.batches_done) % workers
        done = self.batches_done // workers + (worker < self.batches_done % workers)
        rows = self._rows(self.rank * workers + worker, self.world * workers)
        return islice(rows, done * self.batch_size, None)

    def _rows(self, reader: int, readers: int) -> Iterator[StreamRow]:
        for number, (record, caption) in enumerate(self._shuffled(reader, readers)):
            yield StreamRow(record, caption, (self.seed, reader, number))

    def _shuffled(self, reader: int, readers: int) -> Iterator[tuple[Record, str]]:
        rng = np.random.default_rng([self.seed, reader, readers])
        waiting: list[tuple[Record, str]] = []
        for row in self._in_order(reader, readers):
            if len(waiting) < self.buffer:
                waiting.append(row)
                continue
            at = int(rng.integers(self.buffer))
            waiting[at], row = row, waiting[at]
            yield row

    def _in_order(self, reader: int, readers: int) -> Iterator[tuple[Record, str]]:
        """Pass after pass over this reader's share; fewer pieces than readers are split by turns.

        Raises:
            DataError: a whole pass held no caption.
        """
        turns = -(-readers // len(self.pieces))  # readers to a piece
        for epoch in count():
            found = False
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pieces) * turns)
            for share in order[reader::readers]:
                piece, turn = divmod(int(share), turns)
                for record in islice(self.pieces[piece](), turn, self.limit, turns):
                    for caption in record.captions:
                        found = True
                        yield record, caption
            if not found:
                raise DataError(f"{self.data} ({self.split}): reader {reader} of {readers} found no caption in a pass.")


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

    The teacher is asked while the student trains, so its own words come along in ``teacher_input_ids``.

    Args:
        tokenizer: the student's.
        image_processor: makes pixels; ``None`` for text alone.
        teacher_tokenizer: the teacher's; ``None`` where no teacher is asked.
        **options: of :class:`vlkd_training.data.collate.CaptionCollator`.
    """

    def __init__(self, tokenizer: Any, image_processor: Any, teacher_tokenizer: Any, **options: Any) -> None:
        self.tokenizer, self.image_processor, self.teacher_tokenizer = tokenizer, image_processor, teacher_tokenizer
        self.options = options

    def __call__(self, rows: Sequence[StreamRow]) -> dict[str, torch.Tensor]:
        """Return what the method and the student need; what is drawn depends on the rows alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(repr([row.seed for row in rows]).encode()))
            return self._collate(rows)

    def _collate(self, rows: Sequence[StreamRow]) -> dict[str, torch.Tensor]:
        texts = _Texts([row.caption for row in rows])
        pictures = None
        if self.image_processor is not None:
            pictures = PictureSource(records=[row.record for row in rows], image_processor=self.image_processor)
        make = CaptionCollator(texts, self.tokenizer, pictures, None, **self.options)
        found = make(range(len(rows)))
        if pictures is not None:
            found["image_ids"] = torch.tensor([zlib.crc32(row.record.id.encode()) for row in rows])
        if self.teacher_tokenizer is not None:
            found["clean_input_ids"], found["clean_attention_mask"] = make.encoder_inputs(make.tokens)
            words = tokenize(self.teacher_tokenizer, texts.texts)
            found |= {f"teacher_{name}": value for name, value in words.items()}
        return found


class _Texts:
    """The captions of one batch, in the shape of :class:`vlkd_training.rows.CaptionRows`."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.images = texts, list(range(len(texts)))
