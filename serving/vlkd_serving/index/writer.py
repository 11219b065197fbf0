"""Write an index in bulk: a new generation beside the old ones, committed by one rename."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index.commit import Content, commit, disk_errors, next_epoch, write_generation
from vlkd_serving.index.items import Item
from vlkd_serving.index.lock import writer_lock
from vlkd_serving.index.manifest import IndexManifest
from vlkd_serving.index.progress import Progress, no_progress
from vlkd_serving.index.reader import IndexReader
from vlkd_serving.index.roots import ImageRoot
from vlkd_serving.index.spec import Budget
from vlkd_serving.index.vectors import FloatArray, normalised_blocks

__all__ = ["IndexWriter", "check_new"]


class IndexWriter:
    """The one writer of an index folder; a context manager that holds its lock.

    Each method returns after its generation is committed: from then on it survives a crash. To change a few items of a
    large index use :class:`LiveWriter`, which writes them to the log.

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
        with disk_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        self._lock.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def build(
        self,
        items: Iterable[Item],
        vectors: NDArray[np.generic],
        image_root: Path | ImageRoot | None,
        *,
        budget: Budget | None = None,
        space: str = "",
        queries: FloatArray | None = None,
        progress: Progress = no_progress,
    ) -> IndexManifest:
        """Replace the whole content.

        Args:
            items: N items with distinct ids.
            vectors: (N, D), in memory or mapped; they are L2-normalised here.
            image_root: folder that the items' paths start from.
            budget: what to choose the structure by.
            space: a name for the embedding space, for example that of a teacher.
            queries: (Q, D) queries to measure the recall with; None takes held-out rows.
            progress: called with the steps.

        Raises:
            InvalidInputError: another number of items than vectors, a repeated id, a row that cannot be normalised, a
                budget that nothing meets.
            IndexWriteError: the disk refused; the old content stays.
        """
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise InvalidInputError(f"Vectors must have the shape (items, dim), got {vectors.shape}.")
        content = self._content(items, normalised_blocks(vectors), vectors.shape, self._root(image_root))
        return self._commit(content(budget=budget or Budget(), space=space, queries=queries), progress)

    def build_from(
        self,
        items: Iterable[Item],
        blocks: Iterable[FloatArray],
        shape: tuple[int, int],
        image_root: ImageRoot | None,
        budget: Budget,
        space: str = "",
    ) -> IndexManifest:
        """As :meth:`build`, from (N, D) vectors that come in blocks, L2-normalised already."""
        content = self._content(items, blocks, shape, image_root)
        return self._commit(content(budget=budget, space=space), no_progress)

    def add(
        self,
        items: Sequence[Item],
        vectors: NDArray[np.generic],
        image_root: Path | ImageRoot | None,
        progress: Progress = no_progress,
    ) -> IndexManifest:
        """Add items; one whose id is already there replaces the old one.

        Args:
            items: N items.
            vectors: (N, D), of the index's D.
            image_root: as in :meth:`build`; it must be the one that the index has.
            progress: called with the steps.

        Raises:
            BundleError: no index yet, or one of another embedding space.
            InvalidInputError: another image root, or vectors that do not fit.
            IndexWriteError: the disk refused; the old content stays.
        """
        reader = self._current()
        try:
            check_new(reader, items, vectors, self._root(image_root))
            return self._rewrite(reader, {item.id for item in items}, items, vectors, progress)
        finally:
            reader.close()

    def remove(self, ids: Sequence[str]) -> IndexManifest:
        """Remove items.

        Raises:
            InvalidInputError: an id is not in the index; nothing is removed then.
            IndexWriteError: the disk refused; the old content stays.
        """
        reader = self._current()
        try:
            missing = sorted({item_id for item_id in ids if reader.get(item_id) is None})
            if missing:
                raise InvalidInputError(f"These ids are not in the index: {', '.join(missing[:5])}.")
            nothing = np.empty((0, reader.manifest.embedding_dim), dtype=np.float32)
            return self._rewrite(reader, set(ids), [], nothing, no_progress)
        finally:
            reader.close()

    def _current(self) -> IndexReader:
        reader = IndexReader.open(self.directory, self.fingerprint)
        if reader.degraded is not None:
            reader.close()
            raise BundleError(f"The index cannot be changed while it is damaged. {reader.degraded} Build it again.")
        return reader

    def _rewrite(
        self,
        reader: IndexReader,
        without: set[str],
        items: Sequence[Item],
        vectors: NDArray[np.generic],
        progress: Progress,
    ) -> IndexManifest:
        keep = np.fromiter((item.id not in without for item in reader.iter_items()), dtype=np.bool_, count=len(reader))
        kept = (item for item in reader.iter_items() if item.id not in without)
        shape = (int(keep.sum()) + len(items), reader.manifest.embedding_dim)
        blocks = chain(_chosen(reader, keep), normalised_blocks(vectors))
        content = self._content(chain(kept, items), blocks, shape, reader.manifest.image_root)
        same = {"budget": reader.manifest.budget, "space": reader.manifest.space}
        before = reader.generation.ranking.structure
        return self._commit(content(**same, compatible=reader.manifest.compatible, before=before), progress)

    def _content(
        self, items: Iterable[Item], blocks: Iterable[FloatArray], shape: tuple[int, ...], root: ImageRoot | None
    ) -> partial[Content]:
        epoch, sequence = next_epoch(self.directory)
        return partial(
            Content,
            items=items,
            blocks=blocks,
            count=shape[0],
            dim=shape[1],
            fingerprint=self.fingerprint,
            compatible=[],
            image_root=root,
            epoch=epoch,
            sequence=sequence,
        )

    def _root(self, image_root: Path | ImageRoot | None) -> ImageRoot | None:
        return ImageRoot.of(image_root, self.directory) if isinstance(image_root, Path) else image_root

    def _commit(self, content: Content, progress: Progress) -> IndexManifest:
        with disk_errors(self.directory):
            manifest = write_generation(self.directory, content, progress)
            commit(self.directory, manifest)
        return manifest


def check_new(reader: IndexReader, items: Sequence[Item], vectors: NDArray[np.generic], root: ImageRoot | None) -> None:
    """Whether items fit into an index.

    Raises:
        InvalidInputError: another image root, another width, another number of vectors than items.
    """
    has = reader.manifest.image_root
    here = None if has is None else has.resolve(reader.directory)
    given = None if root is None else root.resolve(reader.directory)
    if any(item.path is not None for item in items) and given != here:
        raise InvalidInputError(
            f"The index finds its pictures under {here or 'no folder'}, got pictures under {given}. "
            "Add pictures from the same folder, or build the index again."
        )
    if vectors.ndim != 2 or vectors.shape[1] != reader.manifest.embedding_dim:
        raise InvalidInputError(
            f"The index holds {reader.manifest.embedding_dim} values an item, got vectors of shape {vectors.shape}."
        )
    if len(items) != len(vectors):
        raise InvalidInputError(f"Each item needs one vector, got {len(items)} items and {len(vectors)} vectors.")


def _chosen(reader: IndexReader, keep: NDArray[np.bool_]) -> Iterable[FloatArray]:
    start = 0
    for block in reader.iter_vectors():
        yield block[keep[start : start + len(block)]]
        start += len(block)
