"""Vectors of a large collection in parts: ``part-000012.npy``, its items in ``.jsonl`` and its record in ``.json``.

The record comes last and names the other two by size and SHA-256: a part whose record fits is whole, and one that was
being written when its process died has none.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlkd_hub.errors import DataError
from vlkd_serving.index import fsio
from vlkd_serving.index.build import Embedded
from vlkd_serving.index.items import Item, metadata_json
from vlkd_serving.index.precomputed import load_precomputed
from vlkd_serving.index.vectors import FloatArray, normalised_blocks

__all__ = ["PartRecord", "PartSet", "read_record", "whole_part", "write_part"]


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What a part says of itself.

    Args:
        source: what it was made of; a part of other pictures is made again.
        fingerprint: of the model that made the vectors.
        rows: vectors in it.
        dim: D.
        skipped: ids that could not be read, with the reason.
        files: name -> (size in bytes, SHA-256).
    """

    source: str
    fingerprint: str
    rows: int
    dim: int
    skipped: list[tuple[str, str]]
    files: dict[str, tuple[int, str]]


def write_part(folder: Path, number: int, found: Embedded, *, source: str, fingerprint: str, dim: int) -> PartRecord:
    """Write a part; what was there under its number is replaced.

    Args:
        folder: exists already.
        number: of the part.
        found: items and (N, D) vectors, N perhaps 0.
        source: see :class:`PartRecord`.
        fingerprint: see :class:`PartRecord`.
        dim: D.
    """
    vectors = np.asarray(found.vectors, dtype=np.float32).reshape(len(found.items), dim)
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    lines = "".join(f"{_line(item)}\n" for item in found.items)
    contents = {f"{_stem(number)}.npy": buffer.getvalue(), f"{_stem(number)}.jsonl": lines.encode()}
    files = {name: _replace(folder / name, content) for name, content in contents.items()}
    skipped = [(each.id, each.reason) for each in found.skipped]
    record = PartRecord(
        source=source, fingerprint=fingerprint, rows=len(vectors), dim=dim, skipped=skipped, files=files
    )
    _replace(folder / f"{_stem(number)}.json", json.dumps(asdict(record), ensure_ascii=False).encode())
    return record


def whole_part(folder: Path, number: int, source: str, fingerprint: str) -> PartRecord | None:
    """The record of a part that is there, made of ``source`` by this model, and undamaged; else None."""
    try:
        record = read_record(folder / f"{_stem(number)}.json")
    except (DataError, FileNotFoundError):
        return None
    same = (record.source, record.fingerprint) == (source, fingerprint)
    return record if same and not _damage(folder, record) else None


def read_record(path: Path) -> PartRecord:
    """The record of a part.

    Raises:
        DataError: not such a file.
        FileNotFoundError: nothing is there.
    """
    try:
        return PartRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise DataError(f"{path} is not the record of a part of vectors.") from None


class PartSet:
    """Every part of a folder, checked, as one source for an index.

    Args:
        folder: what ``vlkd scale embed`` wrote, or some of its parts.

    Raises:
        DataError: no part, a damaged one, parts of two models, or no vector in any of them.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("part-*.json"))
        if not paths:
            raise DataError(f"{folder} holds no part (part-000000.json); write them with `vlkd scale embed`.")
        records = [(path, read_record(path)) for path in paths]
        for _, record in records:
            if problem := _damage(folder, record):
                raise DataError(f"{folder / problem} is missing or damaged: run the same `vlkd scale embed` again.")
        if len({(record.fingerprint, record.dim) for _, record in records}) > 1:
            raise DataError(f"{folder} holds parts of more than one model: give each a folder of its own.")
        self.fingerprint = records[0][1].fingerprint
        self.shape = (sum(record.rows for _, record in records), records[0][1].dim)
        if not self.shape[0]:
            raise DataError(f"Not one picture of the parts in {folder} could be read.")
        self._paths = [path for path, record in records if record.rows]

    def items(self) -> Iterator[Item]:
        """Every item, a part at a time."""
        for path in self._paths:
            yield from load_precomputed(path.with_suffix(".npy"), path.with_suffix(".jsonl"))[0]

    def blocks(self) -> Iterable[FloatArray]:
        """Every vector, L2-normalised, in the order of :meth:`items`."""
        for path in self._paths:
            yield from normalised_blocks(np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False))


def _stem(number: int) -> str:
    return f"part-{number:06d}"


def _line(item: Item) -> str:
    record: dict[str, Any] = json.loads(metadata_json(item))
    return json.dumps(
        {**record, "id": item.id, **({} if item.path is None else {"path": item.path})}, ensure_ascii=False
    )


def _replace(path: Path, content: bytes) -> tuple[int, str]:
    """Write a file under a name of this process's own, then move it into place: two writers never mix."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fsio.write_bytes(temporary, content)
    digest = fsio.file_sha256(temporary)
    fsio.replace(temporary, path)
    return len(content), digest


def _damage(folder: Path, record: PartRecord) -> str | None:
    """Name of the first file that is not what the record says, or None."""
    for name, (size, digest) in record.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.stat().st_size != size:
            return name
        if fsio.file_sha256(path) != digest:
            return name
    return None
