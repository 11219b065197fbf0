"""Merge indexes into one, and split one into several; nothing is embedded again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index.items import Item
from vlkd_serving.index.manifest import MANIFEST_NAME, IndexManifest
from vlkd_serving.index.reader import IndexReader
from vlkd_serving.index.roots import ImageRoot
from vlkd_serving.index.spec import Budget
from vlkd_serving.index.vectors import FloatArray
from vlkd_serving.index.writer import IndexWriter

__all__ = ["merge", "shard_of", "split"]


def merge(target: Path, sources: Sequence[Path], budget: Budget | None = None) -> IndexManifest:
    """Write the items of several indexes into a new one.

    Args:
        target: a folder without an index.
        sources: two or more indexes of one embedding space, without a common id.
        budget: what to choose the structure by; by default the first one's.

    Raises:
        InvalidInputError: other embedding spaces, an id in two of them, or an index at ``target``.
    """
    _must_be_new(target)
    readers = [_whole(source) for source in sources]
    try:
        first = readers[0].manifest
        for reader in readers[1:]:
            other = reader.manifest
            if (other.fingerprint, other.embedding_dim) != (first.fingerprint, first.embedding_dim):
                raise InvalidInputError(
                    f"{reader.directory} holds another embedding space than {readers[0].directory}; bring both to one "
                    "model with `vlkd index migrate`."
                )
        _check_ids(readers)
        target.mkdir(parents=True, exist_ok=True)
        root, prefixes = _common_root(readers, target)
        items = chain.from_iterable(_moved(r, prefix) for r, prefix in zip(readers, prefixes, strict=True))
        blocks = chain.from_iterable(reader.iter_vectors() for reader in readers)
        shape = (sum(len(reader) for reader in readers), first.embedding_dim)
        with IndexWriter(target, first.fingerprint) as writer:
            return writer.build_from(items, blocks, shape, root, budget or first.budget, first.space)
    finally:
        for reader in readers:
            reader.close()


def split(source: Path, targets: Sequence[Path], where: str | None = None) -> list[IndexManifest]:
    """Write the items of an index into several new ones: by a hash of the id, or by a filter.

    Args:
        source: the index; it stays as it is.
        targets: folders without an index. With ``where`` two: what the filter lets through, and the rest.
        where: a filter.

    Raises:
        InvalidInputError: fewer than two targets, or an index at one of them.
    """
    if len(targets) < 2 or (where is not None and len(targets) != 2):
        raise InvalidInputError(f"A split needs two or more targets, with a filter exactly two; got {len(targets)}.")
    for target in targets:
        _must_be_new(target)
    reader = _whole(source)
    try:
        if where is None:
            shards = [shard_of(item.id, len(targets)) for item in reader.iter_items()]
        else:
            chosen = set(reader.ids_at(reader.rows_where(where).tolist()))
            shards = [int(item.id not in chosen) for item in reader.iter_items()]
        numbers = np.array(shards, dtype=np.int64)
        return [_write_part(reader, target, numbers == shard) for shard, target in enumerate(targets)]
    finally:
        reader.close()


def shard_of(item_id: str, shards: int) -> int:
    """Which shard an id belongs to; the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:8], "little") % shards


def _write_part(reader: IndexReader, target: Path, keep: NDArray[np.bool_]) -> IndexManifest:
    manifest = reader.manifest
    target.mkdir(parents=True, exist_ok=True)
    root = manifest.image_root
    here = None if root is None else root.resolve(reader.directory)
    if root is not None and here is not None and not root.machine_named:
        root = ImageRoot.of(here, target)
    items = (item for item, wanted in zip(reader.iter_items(), keep, strict=True) if wanted)
    shape = (int(keep.sum()), manifest.embedding_dim)
    with IndexWriter(target, manifest.fingerprint) as writer:
        blocks = _chosen(reader.iter_vectors(), keep)
        return writer.build_from(items, blocks, shape, root, manifest.budget, manifest.space)


def _chosen(blocks: Iterable[FloatArray], keep: NDArray[np.bool_]) -> Iterator[FloatArray]:
    start = 0
    for block in blocks:
        yield block[keep[start : start + len(block)]]
        start += len(block)


def _must_be_new(target: Path) -> None:
    if (target / MANIFEST_NAME).exists():
        raise InvalidInputError(f"{target} holds an index already; give a folder without one.")


def _whole(source: Path) -> IndexReader:
    reader = IndexReader.open(source)
    if reader.degraded is not None:
        raise BundleError(f"{source} is damaged: {reader.degraded} Build it again first.")
    return reader


def _check_ids(readers: Sequence[IndexReader]) -> None:
    seen: dict[str, Path] = {}
    for reader in readers:
        for item in reader.iter_items():
            if item.id in seen:
                raise InvalidInputError(f"The id {item.id!r} is in {seen[item.id]} and in {reader.directory}.")
            seen[item.id] = reader.directory


def _common_root(readers: Sequence[IndexReader], target: Path) -> tuple[ImageRoot | None, list[str]]:
    """The folder that holds every root, and each root's path under it."""
    roots = []
    for reader in readers:
        root = reader.manifest.image_root
        place = None if root is None else root.resolve(reader.directory)
        if root is not None and place is None:
            raise InvalidInputError(f"The pictures of {reader.directory} lie under {root}, unknown on this machine.")
        roots.append(place)
    known = [place for place in roots if place is not None]
    if not known:
        return None, [""] * len(readers)
    common = Path(os.path.commonpath(known))
    prefixes = ["" if place is None else place.relative_to(common).as_posix() for place in roots]
    return ImageRoot.of(common, target), ["" if prefix == "." else prefix for prefix in prefixes]


def _moved(reader: IndexReader, prefix: str) -> Iterator[Item]:
    for item in reader.iter_items():
        yield replace(item, path=f"{prefix}/{item.path}") if prefix and item.path is not None else item
