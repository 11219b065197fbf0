"""Write an index: a new generation beside the old ones, committed by one rename."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.items import Item, write_items
from vlkd_serving.index.lock import writer_lock
from vlkd_serving.index.manifest import MANIFEST_NAME, PREVIOUS_NAME, IndexManifest, commit_manifest, read_manifest
from vlkd_serving.index.reader import ITEMS_FILE, VECTORS_FILE, IndexReader
from vlkd_serving.index.vectors import FlatVectors, normalise

__all__ = ["IndexWriter"]

_GENERATION = re.compile(r"gen-(\d{6,})")


class IndexWriter:
    """The one writer of an index folder; a context manager that holds its lock.

    Each method returns after its generation is committed: from then on it survives a crash.

    Args:
        directory: the index folder; made where it does not exist.
        fingerprint: embedding space of the vectors that will be written.

    Raises:
        IndexLockedError: on entry, when another process writes this index.
    """

    def __init__(self, directory: str | Path, fingerprint: str) -> None:
        self.directory = Path(directory)
        self.fingerprint = fingerprint
        self._lock = writer_lock(self.directory)

    def __enter__(self) -> IndexWriter:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def build(self, items: Sequence[Item], vectors: NDArray[np.float32], image_root: Path | None) -> IndexManifest:
        """Replace the whole content.

        Args:
            items: N items with distinct ids.
            vectors: (N, D); they are L2-normalised here.
            image_root: folder that the items' paths start from.

        Raises:
            InvalidInputError: another number of items than vectors, a repeated id, a row that cannot be normalised.
        """
        if len(items) != len(vectors):
            raise InvalidInputError(f"Each item needs one vector, got {len(items)} items and {len(vectors)} vectors.")
        return self._commit(items, normalise(vectors), _absolute(image_root))

    def add(self, items: Sequence[Item], vectors: NDArray[np.float32], image_root: Path | None) -> IndexManifest:
        """Add items; one whose id is already there replaces the old one.

        Args:
            items: N items.
            vectors: (N, D), of the index's D.
            image_root: as in :meth:`build`; it must be the one that the index has.

        Raises:
            BundleError: no index yet, or one of another embedding space.
            InvalidInputError: another image root, or vectors that do not fit.
        """
        with_ids = {item.id for item in items}
        kept, kept_vectors, root = self._current(without=with_ids)
        if _absolute(image_root) != root:
            raise InvalidInputError(
                f"The index finds its pictures under {root}, got pictures under {image_root}. "
                "Add pictures from the same folder, or build the index again."
            )
        if vectors.ndim != 2 or vectors.shape[1] != kept_vectors.shape[1]:
            raise InvalidInputError(
                f"The index holds {kept_vectors.shape[1]} values an item, got vectors of shape {vectors.shape}."
            )
        if len(items) != len(vectors):
            raise InvalidInputError(f"Each item needs one vector, got {len(items)} items and {len(vectors)} vectors.")
        return self._commit([*kept, *items], np.concatenate([kept_vectors, normalise(vectors)]), root)

    def remove(self, ids: Sequence[str]) -> IndexManifest:
        """Remove items.

        Raises:
            InvalidInputError: an id is not in the index; nothing is removed then.
        """
        kept, vectors, root = self._current(without=set(ids), must_exist=True)
        return self._commit(kept, vectors, root)

    def _current(
        self, without: set[str], must_exist: bool = False
    ) -> tuple[list[Item], NDArray[np.float32], str | None]:
        reader = IndexReader.open(self.directory, self.fingerprint)
        try:
            if reader.degraded is not None:
                raise BundleError(f"The index cannot be changed while it is damaged. {reader.degraded} Build it again.")
            items = reader.items()
            missing = without - {item.id for item in items}
            if must_exist and missing:
                raise InvalidInputError(f"These ids are not in the index: {', '.join(sorted(missing)[:5])}.")
            keep = [row for row, item in enumerate(items) if item.id not in without]
            return [items[row] for row in keep], reader.vectors()[keep], reader.manifest.image_root
        finally:
            reader.close()

    def _commit(self, items: Sequence[Item], vectors: NDArray[np.float32], image_root: str | None) -> IndexManifest:
        generation = 1 + max((number for number, _ in self._generations()), default=0)
        folder = self.directory / f"gen-{generation:06d}"
        folder.mkdir()
        FlatVectors.from_array(vectors).write(folder / VECTORS_FILE)
        fsio.fsync_file(folder / VECTORS_FILE)
        write_items(folder / ITEMS_FILE, items)
        fsio.fsync_file(folder / ITEMS_FILE)
        fsio.fsync_dir(folder)
        fsio.fsync_dir(self.directory)
        manifest = IndexManifest(
            generation=generation,
            fingerprint=self.fingerprint,
            embedding_dim=int(vectors.shape[1]),
            ntotal=len(items),
            kind=FlatVectors.kind,
            image_root=image_root,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={
                name: {"size": (folder / name).stat().st_size, "sha256": fsio.file_sha256(folder / name)}
                for name in (VECTORS_FILE, ITEMS_FILE)
            },
        )
        commit_manifest(self.directory, manifest)
        self._collect()
        return manifest

    def _generations(self) -> list[tuple[int, Path]]:
        matches = ((_GENERATION.fullmatch(path.name), path) for path in self.directory.iterdir())
        return [(int(match[1]), path) for match, path in matches if match]

    def _collect(self) -> None:
        """Remove every generation that neither manifest names, under the lock and after the commit."""
        keep = set()
        for name in (MANIFEST_NAME, PREVIOUS_NAME):
            try:
                manifest = read_manifest(self.directory, name)
            except IndexCorruptError:
                continue
            if manifest is not None:
                keep.add(manifest.generation)
        for number, path in self._generations():
            if number not in keep:
                shutil.rmtree(path, ignore_errors=True)


def _absolute(image_root: Path | None) -> str | None:
    return None if image_root is None else str(image_root.resolve())
