"""Open a committed generation: verify every file, then search it. A reader never changes the index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.items import Item, ItemStore
from vlkd_serving.index.manifest import MANIFEST_NAME, PREVIOUS_NAME, IndexManifest, read_manifest
from vlkd_serving.index.vectors import FlatVectors, normalise

__all__ = ["ITEMS_FILE", "VECTORS_FILE", "Hit", "IndexReader"]

VECTORS_FILE = "vectors.faiss"
ITEMS_FILE = "items.sqlite"
_OPEN_ATTEMPTS = 3


@dataclass(frozen=True)
class Hit:
    """One search result: the item and its cosine similarity to the query."""

    item: Item
    score: float


class IndexReader:
    """One verified generation, open for search; safe to use from several threads.

    Args:
        directory: the index folder.
        manifest: the generation's manifest.
        degraded: why an older generation than the committed one is open, or None when all is well.
    """

    def __init__(self, directory: Path, manifest: IndexManifest, degraded: str | None = None) -> None:
        folder = directory / manifest.folder
        _verify(folder, manifest)
        self.directory = directory
        self.manifest = manifest
        self.degraded = degraded
        self._vectors = FlatVectors.read(folder / VECTORS_FILE)
        if len(self._vectors) != manifest.ntotal or self._vectors.dim != manifest.embedding_dim:
            raise IndexCorruptError(f"{folder} holds another number or width of vectors than its manifest says.")
        self._items = ItemStore(folder / ITEMS_FILE)

    @classmethod
    def open(cls, directory: str | Path, fingerprint: str | None = None) -> IndexReader:
        """Open the committed generation, or the one before it where the committed one is damaged.

        Args:
            directory: the index folder.
            fingerprint: embedding space of the model that will query it; None skips the comparison.

        Raises:
            BundleError: no index there, or one built with another model.
            IndexCorruptError: neither generation can be trusted.
        """
        directory = Path(directory)
        for attempt in range(_OPEN_ATTEMPTS):
            try:
                reader = cls._open_verified(directory)
                break
            except FileNotFoundError:  # a writer removed the generation between our two reads: read the manifest again
                if attempt + 1 == _OPEN_ATTEMPTS:
                    raise IndexCorruptError(f"Files of the index {directory} are missing.") from None
        if fingerprint is not None and reader.manifest.fingerprint != fingerprint:
            reader.close()
            raise BundleError(
                f"The index {directory} was built with another model (its embedding space is "
                f"{reader.manifest.fingerprint[:12]}, this model's is {fingerprint[:12]}): scores would mean nothing. "
                "Load the model it was built with, or build it again with `vlkd index build`."
            )
        return reader

    @classmethod
    def _open_verified(cls, directory: Path) -> IndexReader:
        try:
            manifest = read_manifest(directory)
            if manifest is None:
                if (directory / PREVIOUS_NAME).exists():
                    raise IndexCorruptError(f"{directory / MANIFEST_NAME} is missing.")
                raise BundleError(f"There is no index in {directory}. Make one with `vlkd index build`.")
            return cls(directory, manifest)
        except IndexCorruptError as damage:
            try:
                previous = read_manifest(directory, PREVIOUS_NAME)
                if previous is None:
                    raise damage
                return cls(
                    directory, previous, degraded=f"{damage} Generation {previous.generation} is served instead."
                )
            except IndexCorruptError:
                raise damage from None

    def __len__(self) -> int:
        return self.manifest.ntotal

    def search(self, query: NDArray[np.float32], k: int) -> list[Hit]:
        """The ``k`` items most similar to one embedding.

        Args:
            query: (D,), any positive length; it is L2-normalised here.
            k: at least 1; fewer hits come back where the index holds fewer items.

        Raises:
            InvalidInputError: ``k`` below 1, another width than the index, NaN or a zero vector.
        """
        if k < 1:
            raise InvalidInputError(f"k must be at least 1, got {k}.")
        if query.shape != (self.manifest.embedding_dim,):
            raise InvalidInputError(
                f"The query has the shape {query.shape}; the index holds {self.manifest.embedding_dim} values an item."
            )
        if not len(self):
            return []
        scores, rows = self._vectors.search(normalise(query[None]), k)
        items = self._items.rows([int(row) for row in rows[0]])
        return [Hit(item, float(score)) for item, score in zip(items, scores[0], strict=True)]

    def get(self, item_id: str) -> Item | None:
        """The item with this id, or None."""
        return self._items.get(item_id)

    def items(self) -> list[Item]:
        """Every item, in row order."""
        return self._items.all()

    def vectors(self) -> NDArray[np.float32]:
        """A copy of every vector, (N, D), in row order."""
        return self._vectors.to_array()

    def picture_path(self, item_id: str) -> Path | None:
        """Where the picture of an item lies, or None.

        None as well for an unknown id, a file that is gone, and a file that a link leads out of the image root.
        """
        item = self.get(item_id)
        if item is None or item.path is None or self.manifest.image_root is None:
            return None
        root = Path(self.manifest.image_root).resolve()
        path = (root / item.path).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None

    def stats(self) -> dict[str, Any]:
        """What ``vlkd index stats`` prints."""
        manifest = self.manifest
        return {
            "generation": manifest.generation,
            "items": manifest.ntotal,
            "dim": manifest.embedding_dim,
            "kind": manifest.kind,
            "bytes": sum(entry["size"] for entry in manifest.files.values()),
            "fingerprint": manifest.fingerprint,
            "image_root": manifest.image_root,
            "created": manifest.created,
            "degraded": self.degraded,
        }

    def close(self) -> None:
        """Close the items file; the vectors go with the object."""
        self._items.close()


def _verify(folder: Path, manifest: IndexManifest) -> None:
    if set(manifest.files) != {VECTORS_FILE, ITEMS_FILE}:
        raise IndexCorruptError(f"The manifest of {folder} does not name exactly {VECTORS_FILE} and {ITEMS_FILE}.")
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            if folder.parent.exists() and _is_current(folder.parent, manifest):
                raise IndexCorruptError(f"{path} is missing.") from None
            raise
        if size != expected["size"] or fsio.file_sha256(path) != expected["sha256"]:
            raise IndexCorruptError(f"{path} is damaged: its size or SHA-256 is not the one in the manifest.")


def _is_current(directory: Path, manifest: IndexManifest) -> bool:
    """Whether a manifest on disk still names this generation: if so, a file that is missing is damage."""
    for name in (MANIFEST_NAME, PREVIOUS_NAME):
        try:
            on_disk = read_manifest(directory, name)
        except IndexCorruptError:
            continue
        if on_disk is not None and on_disk.generation == manifest.generation:
            return True
    return False
