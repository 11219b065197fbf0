"""One committed generation on disk: verify every file, then open it. Nothing here changes a file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError, WhereTimeoutError
from vlkd_serving.index.ids import IdTable
from vlkd_serving.index.items import ItemStore
from vlkd_serving.index.manifest import MANIFEST_NAME, PREVIOUS_NAME, IndexManifest, read_manifest
from vlkd_serving.index.ranking import Ranking
from vlkd_serving.index.structure import Structure
from vlkd_serving.index.vectors import KeptVectors
from vlkd_serving.index.where import Condition

__all__ = ["IDS_FILE", "ITEMS_FILE", "KEPT_FILE", "VECTORS_FILE", "Generation"]

VECTORS_FILE = "vectors.faiss"
KEPT_FILE = "exact.npy"
IDS_FILE = "ids.bin"
ITEMS_FILE = "items.sqlite"
_REMEMBERED_FILTERS = 16


class Generation:
    """The files of a generation, open for reading; safe to use from several threads.

    Args:
        directory: the index folder.
        manifest: what the generation must be.
        in_memory: read the ids, and the vectors that candidates are scored with, instead of mapping their files.

    Raises:
        IndexCorruptError: a file is missing, damaged, a link, or not what the manifest says.
        FileNotFoundError: a writer removed the generation meanwhile.
    """

    def __init__(self, directory: Path, manifest: IndexManifest, *, in_memory: bool = False) -> None:
        folder = directory / manifest.folder
        _verify(folder, manifest)
        self.manifest = manifest
        structure = Structure.read(folder / VECTORS_FILE, manifest.spec)
        shape = (manifest.ntotal, manifest.embedding_dim)
        if (len(structure), structure.dim) != shape:
            raise IndexCorruptError(f"{folder} holds another number or width of vectors than its manifest says.")
        kept = None if manifest.spec.exact else KeptVectors.read(folder / KEPT_FILE, shape, in_memory=in_memory)
        self.ranking = Ranking(structure, kept)
        self.items = ItemStore.read(folder / ITEMS_FILE)
        if IDS_FILE in manifest.files:
            self.ids = IdTable.read(folder / IDS_FILE, in_memory=in_memory)
        else:
            self.ids = IdTable.of(item.id for _, item in self.items.all())
        if not len(self.ids) == self.items.count() == manifest.ntotal:
            raise IndexCorruptError(f"{folder} holds another number of items than its manifest says.")
        self._filters: OrderedDict[Condition, NDArray[np.bool_]] = OrderedDict()
        self._scans: WeakValueDictionary[Condition, threading.Lock] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.manifest.ntotal

    def selected(self, condition: Condition) -> NDArray[np.bool_]:
        """(N,) which rows a filter lets through; do not write into it.

        The last filters are remembered, and of equal ones at the same time only one is applied.

        Raises:
            WhereError: as :meth:`ItemStore.matching`.
        """
        with self._lock:
            mask = self._remembered(condition)
            if mask is not None:
                return mask
            scan = self._scans.setdefault(condition, threading.Lock())
        left = condition.seconds_left
        if not scan.acquire(timeout=-1 if left is None else left):
            raise WhereTimeoutError
        try:
            with self._lock:
                mask = self._remembered(condition)
            return self._scan(condition) if mask is None else mask
        finally:
            scan.release()

    def _remembered(self, condition: Condition) -> NDArray[np.bool_] | None:
        if condition not in self._filters:
            return None
        self._filters.move_to_end(condition)
        return self._filters[condition]

    def _scan(self, condition: Condition) -> NDArray[np.bool_]:
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[self.items.matching(condition)] = True
        with self._lock:
            self._filters[condition] = mask
            while len(self._filters) > _REMEMBERED_FILTERS:
                self._filters.popitem(last=False)
        return mask


def _verify(folder: Path, manifest: IndexManifest) -> None:
    expected = {VECTORS_FILE, ITEMS_FILE} | (set() if manifest.spec.exact else {KEPT_FILE})
    if set(manifest.files) - {IDS_FILE} != expected:  # format 1 had no file of ids
        raise IndexCorruptError(f"The manifest of {folder} does not name exactly {', '.join(sorted(expected))}.")
    if folder.is_symlink():
        raise IndexCorruptError(f"{folder} is a link. An index never holds links: copy it with cp -rL.")
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            same = fsio.regular_size(path) == entry.size and fsio.file_sha256(path) == entry.sha256
        except (FileNotFoundError, NotADirectoryError):
            if folder.parent.exists() and _is_current(folder.parent, manifest):
                raise IndexCorruptError(f"{path} is missing.") from None
            raise FileNotFoundError(path) from None
        except OSError as error:
            raise IndexCorruptError(f"{path} cannot be read: {error.strerror}.") from None
        if not same:
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
