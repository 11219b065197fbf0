"""Bring an index to the present format, or to another model; what was embedded is kept if the work is cut short."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import BundleError, DataError, InvalidInputError
from vlkd_serving.index import fsio
from vlkd_serving.index.build import Skipped, embed_pictures, embed_texts, read_from
from vlkd_serving.index.commit import disk_errors
from vlkd_serving.index.items import Item
from vlkd_serving.index.manifest import IndexManifest
from vlkd_serving.index.reader import IndexReader
from vlkd_serving.index.roots import INDEX_ROOT, ImageRoot
from vlkd_serving.index.spec import Budget
from vlkd_serving.index.writer import IndexWriter
from vlkd_serving.protocol import Student

__all__ = ["MigrateReport", "migrate_format", "migrate_model"]

CHUNK_ITEMS = 512


@dataclass(frozen=True)
class MigrateReport:
    """What was committed, what could not be embedded again and is therefore gone, and what an earlier run had done."""

    manifest: IndexManifest
    skipped: tuple[Skipped, ...]
    resumed: int


def migrate_format(directory: Path, root_name: str = INDEX_ROOT, budget: Budget | None = None) -> IndexManifest:
    """Write the content in the present format: a named image root, a structure chosen by a budget; vectors unchanged.

    Args:
        directory: the index folder.
        root_name: of the image root.
        budget: instead of the index's own.

    Raises:
        BundleError: no index, or a damaged one.
    """
    manifest = IndexReader.open(directory).manifest
    with IndexWriter(directory, manifest.fingerprint) as writer:
        reader = _whole(directory)
        place = _root(reader)
        root = None if place is None else ImageRoot.of(place, directory, root_name)
        shape = (len(reader), manifest.embedding_dim)
        wanted = budget or manifest.budget
        return writer.build_from(reader.iter_items(), reader.iter_vectors(), shape, root, wanted, manifest.space)


def migrate_model(
    directory: Path,
    student: Student,
    fingerprint: str,
    *,
    images: Path | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] = lambda done: None,
) -> MigrateReport:
    """Embed every item again with another model and commit the result as a new generation.

    Finished chunks lie in ``migrate-<fingerprint>`` inside the index until then; a second run goes on after them. The
    old generation serves until the commit.

    Args:
        directory: the index folder.
        student: of the new model.
        fingerprint: of the new model.
        images: where the pictures lie now; by default where the index says.
        batch_size: items a forward pass.
        progress: called with the number of items done since the last call.

    Raises:
        InvalidInputError: the index is of this model already.
        DataError: not one item could be embedded, or one has neither a picture nor a text.
        BundleError: no index, or a damaged one.
    """
    with IndexWriter(directory, fingerprint) as writer:
        reader = _whole(directory)
        if reader.manifest.fingerprint == fingerprint:
            raise InvalidInputError(f"The index {directory} is of this model already.")
        items, root = reader.items(), images or _root(reader)
        place = None if root is None else ImageRoot.of(root, directory)
        with disk_errors(directory):
            work = _work_folder(directory, fingerprint, items)
        chunks, skipped, resumed = [], [], 0
        for start in range(0, len(items), CHUNK_ITEMS):
            part = items[start : start + CHUNK_ITEMS]
            path = work / f"{start:09d}.npz"
            chunk = _read_chunk(path)
            if chunk is None:
                chunk = _embed(part, student, root, batch_size, progress)
                with disk_errors(directory):
                    _write_chunk(path, chunk)
            else:
                resumed += len(part)
                progress(len(part))
            chunks.append(chunk.vectors)
            skipped += [Skipped(part[n].id, reason) for n, reason in chunk.skipped.items()]
        lost = {each.id for each in skipped}
        kept = [item for item in items if item.id not in lost]
        if not kept:
            raise DataError(
                f"None of {len(items)} items could be embedded. First: {skipped[0].id}: {skipped[0].reason}"
            )
        vectors = np.concatenate([block for block in chunks if len(block)])
        manifest = writer.build(kept, vectors, place, budget=reader.manifest.budget)
        fsio.remove_tree(work)
        return MigrateReport(manifest, tuple(skipped), resumed)


@dataclass(frozen=True)
class _Chunk:
    vectors: NDArray[np.float32]
    skipped: dict[int, str]


def _embed(
    part: Sequence[Item], student: Student, root: Path | None, batch_size: int, progress: Callable[[int], None]
) -> _Chunk:
    if all(item.path is None and "text" in item.metadata for item in part):
        found = embed_texts(part, student, batch_size, progress)
    elif root is None or any(item.path is None for item in part):
        first = next((item for item in part if item.path is None), part[0])
        raise DataError(f"The item {first.id!r} has neither a picture nor a text here, so no model can embed it again.")
    else:
        found = embed_pictures(part, student, read_from(root), batch_size, progress)
    places = {item.id: number for number, item in enumerate(part)}
    return _Chunk(found.vectors, {places[each.id]: each.reason for each in found.skipped})


def _write_chunk(path: Path, chunk: _Chunk) -> None:
    content = io.BytesIO()
    np.savez(content, vectors=chunk.vectors, skipped=np.array(json.dumps(chunk.skipped)))
    temporary = path.with_suffix(".part")
    fsio.write_bytes(temporary, content.getvalue())
    fsio.replace(temporary, path)


def _read_chunk(path: Path) -> _Chunk | None:
    """A finished chunk, or None where it has to be made (again)."""
    try:
        with np.load(path, allow_pickle=False) as content:
            skipped = {int(n): str(reason) for n, reason in json.loads(str(content["skipped"])).items()}
            return _Chunk(np.asarray(content["vectors"], dtype=np.float32), skipped)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _work_folder(directory: Path, fingerprint: str, items: Sequence[Item]) -> Path:
    """Where the chunks of these items and this model go; another content or model has another folder."""
    digest = hashlib.sha256(fingerprint.encode())
    for item in items:
        digest.update(f"{item.id}\0{item.path}\0".encode())
    work = directory / f"migrate-{digest.hexdigest()[:16]}"
    for other in directory.glob("migrate-*"):
        if other != work:
            fsio.remove_tree(other)
    if not work.exists():
        fsio.make_dir(work)
    return work


def _whole(directory: Path) -> IndexReader:
    reader = IndexReader.open(directory)
    if reader.degraded is not None:
        raise BundleError(f"{directory} is damaged: {reader.degraded} Build it again.")
    return reader


def _root(reader: IndexReader) -> Path | None:
    root = reader.manifest.image_root
    place = None if root is None else root.resolve(reader.directory)
    if root is not None and place is None:
        raise InvalidInputError(f"The pictures of {reader.directory} lie under {root}, unknown on this machine.")
    return place
