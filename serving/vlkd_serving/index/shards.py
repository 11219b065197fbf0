"""Pictures in WebDataset shards: tar files whose members share a key (``0001.jpg``, ``0001.json``, ``0001.txt``)."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_serving.index.items import Item
from vlkd_serving.index.scan import PICTURE_SUFFIXES

__all__ = ["ShardReader", "scan_shards"]

_MAX_TEXT_BYTES = 1 << 20


def scan_shards(shards: Sequence[Path]) -> list[Item]:
    """The pictures of shards, in their order.

    An id is the shard's name and the key; ``metadata`` holds the shard and the member, the fields of the ``.json``, and
    the ``.txt`` as the one caption. The pictures stay in the shards, so the index has no picture paths.

    Raises:
        DataError: not a tar file, a broken ``.json``, or no picture.
    """
    items: list[Item] = []
    for shard in shards:
        try:
            with tarfile.open(shard) as archive:
                items += _items_of(archive, shard)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{shard} is not a tar file that can be read: {error}.") from None
    if not items:
        raise DataError(f"None of {len(shards)} shards holds a picture ({', '.join(PICTURE_SUFFIXES)}).")
    return items


class ShardReader:
    """Reads the picture of an item of :func:`scan_shards`; call it from several threads.

    Args:
        shards: the files, by whose names the items name them.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = {shard.name: shard for shard in shards}
        self._places = {name: _places(shard) for name, shard in self._shards.items()}

    def __call__(self, item: Item) -> bytes:
        """The picture's bytes."""
        shard = str(item.metadata["shard"])
        start, size = self._places[shard][str(item.metadata["member"])]
        with self._shards[shard].open("rb") as handle:
            handle.seek(start)
            return handle.read(size)


def _places(shard: Path) -> dict[str, tuple[int, int]]:
    """Where each member's bytes lie: an uncompressed tar is a row of plain files."""
    with tarfile.open(shard, "r:") as archive:
        return {member.name: (member.offset_data, member.size) for member in archive if member.isfile()}


def _items_of(archive: tarfile.TarFile, shard: Path) -> list[Item]:
    pictures: dict[str, str] = {}
    said: dict[str, dict[str, Any]] = {}
    for member in archive:
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if f".{suffix.lower()}" in PICTURE_SUFFIXES:
            pictures[key] = member.name
        elif suffix.lower() in ("json", "txt") and member.size <= _MAX_TEXT_BYTES:
            said.setdefault(key, {}).update(_said(archive, member, shard))
    items = []
    for key, name in pictures.items():
        metadata = {**said.get(key, {}), "shard": shard.name, "member": name}
        try:
            items.append(Item(id=f"{PurePosixPath(shard.name).stem}/{key}", metadata=metadata))
        except InvalidInputError as error:
            raise DataError(f"{shard}, {name}: {error}") from None
    return items


def _said(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path) -> dict[str, Any]:
    handle = archive.extractfile(member)
    content = handle.read() if handle is not None else b""
    try:
        if member.name.lower().endswith(".txt"):
            return {"captions": [content.decode().strip()]}
        fields = json.loads(content)
        return dict(fields)
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{shard}, {member.name}: expected UTF-8 text or a JSON object.") from None
