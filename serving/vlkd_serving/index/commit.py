"""Write a generation beside the old ones, commit it by one rename, and clear what nobody can need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError, IndexWriteError
from vlkd_serving.index.generation import IDS_FILE, ITEMS_FILE, KEPT_FILE, VECTORS_FILE
from vlkd_serving.index.ids import write_ids
from vlkd_serving.index.items import Item, write_items
from vlkd_serving.index.manifest import (
    MANIFEST_NAME,
    PREVIOUS_NAME,
    FileEntry,
    IndexManifest,
    commit_manifest,
    read_manifest,
)
from vlkd_serving.index.plan import candidates
from vlkd_serving.index.progress import Progress, no_progress
from vlkd_serving.index.roots import ImageRoot
from vlkd_serving.index.spec import Budget
from vlkd_serving.index.structure import Structure
from vlkd_serving.index.tune import Built, build_exact, build_structure
from vlkd_serving.index.vectors import FloatArray, KeptVectors, write_kept
from vlkd_serving.index.wal import list_segments

__all__ = ["Content", "collect", "commit", "disk_errors", "known_manifests", "next_epoch", "write_generation"]

_GENERATION = re.compile(r"gen-(\d{6,})")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a generation will hold.

    Args:
        items: N items with distinct ids.
        blocks: their vectors in the same order, L2-normalised, in blocks of (<= N, D).
        count: N.
        dim: D.
        fingerprint: of their embedding space.
        space: a name for it, or empty.
        compatible: fingerprints of models declared to query it.
        image_root: where the items' paths start, or None.
        epoch: of the log that goes on after it.
        sequence: the last change in it.
        budget: what the structure is chosen by.
        queries: (Q, D) normalised queries to measure with, or None for held-out rows.
        before: the structure that served until now, or None.
    """

    items: Iterable[Item]
    blocks: Iterable[FloatArray]
    count: int
    dim: int
    fingerprint: str
    space: str
    compatible: list[str]
    image_root: ImageRoot | None
    epoch: int
    sequence: int
    budget: Budget
    queries: FloatArray | None = None
    before: Structure | None = None


def write_generation(directory: Path, content: Content, progress: Progress = no_progress) -> IndexManifest:
    """Write the files of a new generation and force them to the disk; nobody sees them before :func:`commit`.

    Raises:
        InvalidInputError: equal ids, a budget that cannot be met by memory.
        OSError: the disk refuses.
        Exception: what ``progress`` raises to end it; after any error what was written is removed again.
    """
    number = 1 + max((number for number, _ in _generations(directory)), default=0)
    folder = directory / f"gen-{number:06d}"
    fsio.make_dir(folder)
    try:
        return _write_files(folder, number, content, progress)
    except BaseException:
        with suppress(OSError):
            fsio.remove_tree(folder)
        raise


def commit(directory: Path, manifest: IndexManifest) -> None:
    """Make a written generation the committed one, then clear what neither manifest can need."""
    commit_manifest(directory, manifest)
    with suppress(OSError):  # it is committed: what cannot be removed now goes the next time
        collect(directory)


def collect(directory: Path) -> None:
    """Remove generations that neither manifest names, log segments whose changes both hold, and temporaries."""
    manifests = known_manifests(directory)
    keep = {manifest.generation for manifest in manifests}
    for number, path in _generations(directory):
        if number not in keep:
            fsio.remove_tree(path)
    for epoch in {segment.epoch for segment in list_segments(directory)}:
        segments = list_segments(directory, epoch)
        held = min((m.sequence for m in manifests if m.epoch == epoch), default=None)
        followers: list[int | None] = [segment.first for segment in segments[1:]] + [None]
        for segment, following in zip(segments, followers, strict=True):
            if held is None or (following is not None and following <= held + 1):
                fsio.unlink(segment.path)
    for path in directory.glob("*.tmp"):
        fsio.unlink(path)


def known_manifests(directory: Path) -> list[IndexManifest]:
    """The committed manifest and the one before it, as far as they can be read."""
    found = []
    for name in (MANIFEST_NAME, PREVIOUS_NAME):
        with suppress(IndexCorruptError):
            manifest = read_manifest(directory, name)
            if manifest is not None:
                found.append(manifest)
    return found


def next_epoch(directory: Path) -> tuple[int, int]:
    """An epoch and a sequence above all that is on the disk."""
    manifests, segments = known_manifests(directory), list_segments(directory)
    epoch = max([0, *(m.epoch for m in manifests), *(s.epoch for s in segments)])
    sequence = max([0, *(m.sequence for m in manifests), *(s.first for s in segments)])
    return epoch + 1, sequence + 1


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Tell a failing disk in one line.

    Raises:
        IndexWriteError: for any OSError inside.
    """
    try:
        yield
    except IndexWriteError:
        raise
    except OSError as error:
        raise IndexWriteError(
            f"Writing the index {directory} failed: {error.strerror or error}. What was confirmed before is safe; this "
            "change was not confirmed. Make room or mend the disk, then repeat it."
        ) from error


def _write_files(folder: Path, number: int, content: Content, progress: Progress) -> IndexManifest:
    built = _built(folder, content, progress)
    structure = built.structure
    structure.write(folder / VECTORS_FILE)
    ids: list[str] = []
    write_items(folder / ITEMS_FILE, _noting(content.items, ids))
    if len(ids) != content.count or len(structure) != content.count:
        raise InvalidInputError(f"Each item needs one vector, got {len(ids)} items and {len(structure)} vectors.")
    write_ids(folder / IDS_FILE, ids)
    fsio.fsync_dir(folder)
    fsio.fsync_dir(folder.parent)
    names = [VECTORS_FILE, ITEMS_FILE, IDS_FILE] + ([] if built.spec.exact else [KEPT_FILE])
    return IndexManifest(
        generation=number,
        epoch=content.epoch,
        sequence=content.sequence,
        fingerprint=content.fingerprint,
        space=content.space,
        compatible=list(content.compatible),
        embedding_dim=content.dim,
        ntotal=content.count,
        spec=built.spec,
        budget=content.budget,
        measured=built.measured,
        image_root=content.image_root,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={
            name: FileEntry(size=(folder / name).stat().st_size, sha256=fsio.file_sha256(folder / name))
            for name in sorted(names)
        },
    )


def _built(folder: Path, content: Content, progress: Progress) -> Built:
    """Build the structure; every one but an exact one learns from, and is held against, the kept vectors."""
    first = candidates(content.count, content.dim, content.budget)[0]
    if first.exact and content.budget.latency_ms is None:
        return build_exact(content.blocks, content.dim, content.budget, progress)
    shape = (content.count, content.dim)
    write_kept(folder / KEPT_FILE, content.blocks, shape, first.codec)
    kept = KeptVectors.read(folder / KEPT_FILE, shape)
    built = build_structure(kept, content.dim, content.budget, content.queries, content.before, progress)
    if built.spec.exact:
        fsio.unlink(folder / KEPT_FILE)
    return built


def _noting(items: Iterable[Item], ids: list[str]) -> Iterator[Item]:
    for item in items:
        ids.append(item.id)
        yield item


def _generations(directory: Path) -> list[tuple[int, Path]]:
    matches = ((_GENERATION.fullmatch(path.name), path) for path in directory.iterdir())
    return [(int(match[1]), path) for match, path in matches if match]
