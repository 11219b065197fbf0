"""Embed pictures into an index: decode on threads, embed in batches, skip and list what is broken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_serving.errors import ServingError
from vlkd_serving.images import PictureLimits, decode_picture
from vlkd_serving.index.items import Item
from vlkd_serving.index.manifest import IndexManifest
from vlkd_serving.index.writer import IndexWriter
from vlkd_serving.protocol import Student

__all__ = ["BuildReport", "Skipped", "build_index"]

# The user's own files may be larger than what a stranger may upload.
_LIMITS = PictureLimits(max_bytes=256 << 20, max_pixels=150_000_000)
_DECODE_THREADS = 2


@dataclass(frozen=True)
class Skipped:
    """A picture that is not in the index, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class BuildReport:
    """What was committed, and what was left out."""

    manifest: IndexManifest
    skipped: tuple[Skipped, ...]


def build_index(
    directory: Path,
    student: Student,
    fingerprint: str,
    items: Sequence[Item],
    root: Path,
    *,
    add: bool = False,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda done: None,
) -> BuildReport:
    """Embed the pictures of ``items`` and commit them as a new generation.

    Args:
        directory: the index folder.
        student: embeds the pictures.
        fingerprint: the student's embedding space.
        items: what to index; each needs a path.
        root: folder that the paths start from.
        add: keep what the index holds and add (or replace, by id) these; the image root must be the same.
        batch_size: pictures a forward pass.
        progress: called with the number of pictures done since the last call.

    Raises:
        DataError: not one picture could be read; nothing is written then.
        IndexLockedError: another process writes this index; found out before any work.
    """
    with IndexWriter(directory, fingerprint) as writer:
        kept, blocks, skipped = _embed(items, root, student, batch_size, progress)
        if not kept:
            raise DataError(
                f"None of the {len(items)} pictures could be read. First: {skipped[0].id}: {skipped[0].reason}"
            )
        write = writer.add if add else writer.build
        return BuildReport(write(kept, np.concatenate(blocks), root), tuple(skipped))


def _embed(
    items: Sequence[Item], root: Path, student: Student, batch_size: int, progress: Callable[[int], None]
) -> tuple[list[Item], list[NDArray[np.float32]], list[Skipped]]:
    """The items that could be read, their vectors in blocks of (<= batch_size, D), and the others."""
    kept: list[Item] = []
    blocks: list[NDArray[np.float32]] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(_DECODE_THREADS) as pool:
        decoded = _decode_all(items, root, pool, lookahead=2 * batch_size)
        while batch := list(islice(decoded, batch_size)):
            pairs = [(item, image) for item, image in batch if isinstance(image, Image.Image)]
            skipped += [Skipped(item.id, image) for item, image in batch if isinstance(image, str)]
            if pairs:
                kept += [item for item, _ in pairs]
                blocks.append(np.asarray(student.embed_images([image for _, image in pairs]), dtype=np.float32))
            progress(len(batch))
    return kept, blocks, skipped


def _decode_all(
    items: Sequence[Item], root: Path, pool: ThreadPoolExecutor, lookahead: int
) -> Iterator[tuple[Item, Image.Image | str]]:
    """Items in order, each with its picture or the reason why there is none; at most ``lookahead`` wait in memory."""
    waiting: deque[tuple[Item, Future[Image.Image | str]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(_decode, item, root)))
        if len(waiting) >= lookahead:
            done, future = waiting.popleft()
            yield done, future.result()
    while waiting:
        done, future = waiting.popleft()
        yield done, future.result()


def _decode(item: Item, root: Path) -> Image.Image | str:
    if item.path is None:
        return "The item has no picture path."
    try:
        return decode_picture((root / item.path).read_bytes(), _LIMITS)
    except OSError as error:
        return f"The file cannot be read: {error.strerror}."
    except ServingError as error:
        return error.message
