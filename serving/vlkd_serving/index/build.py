"""Embed pictures or texts into an index: decode on threads, embed in batches, skip and list what is broken."""

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
from vlkd_serving.index.plan import candidates
from vlkd_serving.index.roots import INDEX_ROOT, ImageRoot
from vlkd_serving.index.spec import Budget
from vlkd_serving.index.writer import IndexWriter
from vlkd_serving.protocol import Student

__all__ = ["BuildReport", "Embedded", "Skipped", "build_index", "embed_pictures", "embed_texts", "read_from"]

# The user's own files may be larger than what a stranger may upload.
_LIMITS = PictureLimits(max_bytes=256 << 20, max_pixels=150_000_000)
_DECODE_THREADS = 2
_CAPTION_QUERIES = 400
ReadPicture = Callable[[Item], bytes]
Counted = Callable[[int], None]


@dataclass(frozen=True)
class Skipped:
    """A picture that is not in the index, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Embedded:
    """Items with a vector each, (N, D), and those that could not be read."""

    items: list[Item]
    vectors: NDArray[np.float32]
    skipped: tuple[Skipped, ...]


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
    root: Path | None,
    *,
    add: bool = False,
    batch_size: int = 32,
    progress: Counted = lambda done: None,
    budget: Budget | None = None,
    root_name: str = INDEX_ROOT,
    read: ReadPicture | None = None,
    texts: bool = False,
) -> BuildReport:
    """Embed ``items`` and commit them as a new generation.

    Args:
        directory: the index folder.
        student: embeds.
        fingerprint: the student's embedding space.
        items: what to index; a picture needs a path, a text ``metadata["text"]``.
        root: folder that the paths start from, or None for an index without picture files.
        add: keep what the index holds and add (or replace, by id) these; the image root must be the same.
        batch_size: items a forward pass.
        progress: called with the number of items done since the last call.
        budget: what to choose the structure by; with ``add`` the index's own counts.
        root_name: the machine's name for a folder above ``root``; by default the index's own folder.
        read: gets an item's picture; by default its path under ``root`` is read.
        texts: embed texts instead of pictures.

    Raises:
        DataError: not one picture could be read; nothing is written then.
        IndexLockedError: another process writes this index; found out before any work.
    """
    budget = budget or Budget()
    with IndexWriter(directory, fingerprint) as writer:
        place = None if root is None else ImageRoot.of(root, directory, root_name)
        if texts:
            found = embed_texts(items, student, batch_size, progress)
        else:
            found = embed_pictures(items, student, read or read_from(root or Path()), batch_size, progress)
        if not found.items:
            first = found.skipped[0]
            raise DataError(f"None of the {len(items)} pictures could be read. First: {first.id}: {first.reason}")
        if add:
            manifest = writer.add(found.items, found.vectors, place)
        else:
            queries = _caption_queries(found, student, budget)
            manifest = writer.build(found.items, found.vectors, place, budget=budget, queries=queries)
        return BuildReport(manifest, found.skipped)


def read_from(root: Path) -> ReadPicture:
    """Reads the picture at an item's path under a folder."""

    def read(item: Item) -> bytes:
        if item.path is None:
            raise FileNotFoundError(2, "the item has no picture path")
        return (root / item.path).read_bytes()

    return read


def embed_texts(items: Sequence[Item], student: Student, batch_size: int, progress: Counted) -> Embedded:
    """Embed ``metadata["text"]`` of each item."""
    blocks = []
    for start in range(0, len(items), batch_size):
        part = items[start : start + batch_size]
        texts = [str(item.metadata["text"]) for item in part]
        blocks.append(np.asarray(student.embed_texts(texts), dtype=np.float32))
        progress(len(part))
    return Embedded(list(items), np.concatenate(blocks), ())


def embed_pictures(
    items: Sequence[Item], student: Student, read: ReadPicture, batch_size: int, progress: Counted
) -> Embedded:
    """Embed the pictures of items, in their order; those that cannot be read are left out."""
    kept: list[Item] = []
    blocks: list[NDArray[np.float32]] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(_DECODE_THREADS) as pool:
        decoded = _decode_all(items, read, pool, lookahead=2 * batch_size)
        while batch := list(islice(decoded, batch_size)):
            pairs = [(item, image) for item, image in batch if isinstance(image, Image.Image)]
            skipped += [Skipped(item.id, image) for item, image in batch if isinstance(image, str)]
            if pairs:
                kept += [item for item, _ in pairs]
                blocks.append(np.asarray(student.embed_images([image for _, image in pairs]), dtype=np.float32))
            progress(len(batch))
    vectors = np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)
    return Embedded(kept, vectors, tuple(skipped))


def _caption_queries(found: Embedded, student: Student, budget: Budget) -> NDArray[np.float32] | None:
    """Captions of the items as queries to measure with: people will ask in words. None where no search is tuned."""
    rows, dim = found.vectors.shape
    if candidates(rows, dim, budget)[0].exact:
        return None
    captioned = (item.metadata.get("captions") for item in found.items)
    captions = [str(texts[0]) for texts in captioned if isinstance(texts, list) and texts]
    if len(captions) < 50:
        return None
    chosen = np.random.default_rng(0).choice(len(captions), size=min(_CAPTION_QUERIES, len(captions)), replace=False)
    blocks = [
        student.embed_texts([captions[n] for n in part]) for part in np.array_split(chosen, -(-len(chosen) // 32))
    ]
    return np.concatenate(blocks).astype(np.float32)


def _decode_all(
    items: Sequence[Item], read: ReadPicture, pool: ThreadPoolExecutor, lookahead: int
) -> Iterator[tuple[Item, Image.Image | str]]:
    """Items in order, each with its picture or the reason why there is none; at most ``lookahead`` wait in memory."""
    waiting: deque[tuple[Item, Future[Image.Image | str]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(_decode, item, read)))
        if len(waiting) >= lookahead:
            done, future = waiting.popleft()
            yield done, future.result()
    while waiting:
        done, future = waiting.popleft()
        yield done, future.result()


def _decode(item: Item, read: ReadPicture) -> Image.Image | str:
    try:
        return decode_picture(read(item), _LIMITS)
    except OSError as error:
        return f"The file cannot be read: {error.strerror}."
    except ServingError as error:
        return error.message
