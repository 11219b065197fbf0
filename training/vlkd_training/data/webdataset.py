"""WebDataset shards: tar files of encoded pictures with their texts, written whole and read as a stream."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError
from vlkd_training.data.fields import record_from_fields
from vlkd_training.data.jsonl import read_json
from vlkd_training.data.records import Record

__all__ = ["INDEX", "SCHEME", "read_shard", "read_shards", "shard_paths", "write_shards"]

SCHEME = "webdataset:"
INDEX = "shards.json"
"""Beside the shards: size, SHA-256 and number of records of each."""


def write_shards(records: Iterable[Record], folder: Path, split: str, records_per_shard: int = 1000) -> list[Path]:
    """Write ``<folder>/<split>-000000.tar``... and ``<folder>/shards.json``; holds one picture at a time.

    A member is ``<number>.<ext>`` (the picture as it is encoded) with ``<number>.json`` (the record's fields).

    Raises:
        DataError: there is no record, or a picture cannot be read.
    """
    if records_per_shard < 1:
        raise DataError(f"records_per_shard must be at least 1, got {records_per_shard}.")
    folder.mkdir(parents=True, exist_ok=True)
    index_path = folder / INDEX
    index: dict[str, Any] = read_json(index_path) if index_path.exists() else {}
    shards: list[Path] = []
    source = iter(records)
    for first in source:
        path = folder / f"{split}-{len(shards):06d}.tar"
        count = _write_shard(path, chain([first], islice(source, records_per_shard - 1)))
        index[path.name] = {"records": count, "size": path.stat().st_size, "sha256": _sha256(path)}
        shards.append(path)
    if not shards:
        raise DataError(f"There is no record to write for split {split!r}.")
    temporary = index_path.with_suffix(".tmp")
    temporary.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, index_path)
    return shards


def read_shards(data: str | Path, split: str) -> Iterator[Record]:
    """Stream the records of shards on disk; those that ``shards.json`` lists are checked first.

    Args:
        data: ``webdataset:PATTERN``; the pattern may hold ``*``, ``?``, ``{000000..000004}`` and ``{split}``.
        split: put in the place of ``{split}``; a pattern without it holds one split, whatever its name.

    Raises:
        DataError: nothing matches, a shard differs from the index, or a member is broken.
    """
    for path in shard_paths(data, split):
        yield from read_shard(path)


def shard_paths(data: str | Path, split: str) -> list[Path]:
    """Return the shards that ``webdataset:PATTERN`` names, in order; arguments as :func:`read_shards`.

    Raises:
        DataError: nothing matches.
    """
    pattern = str(data).removeprefix(SCHEME).replace("{split}", split)
    paths = [Path(found) for part in _expand(pattern) for found in sorted(glob.glob(part))]
    if not paths:
        raise DataError(f"No shard matches {pattern!r} (split {split!r}).")
    return paths


def read_shard(path: Path) -> Iterator[Record]:
    """Stream one shard; if ``shards.json`` lists it, it is checked first.

    Raises:
        DataError: the shard differs from the index, or a member is broken.
    """
    _check_shard(path)
    yield from _read_shard(path)


def _write_shard(path: Path, records: Iterable[Record]) -> int:
    temporary = path.with_suffix(".tmp")
    count = 0
    with tarfile.open(temporary, "w") as tar:
        for count, record in enumerate(records, start=1):
            picture, extension = _encoded(record)
            _add(tar, f"{count - 1:08d}.json", json.dumps(_fields(record), ensure_ascii=False).encode())
            _add(tar, f"{count - 1:08d}.{extension}", picture)
    os.replace(temporary, path)
    return count


def _read_shard(path: Path) -> Iterator[Record]:
    try:
        with tarfile.open(path, "r|") as tar:
            key, parts = "", dict[str, bytes]()
            for member in tar:
                stem, _, extension = member.name.partition(".")
                if stem != key and parts:
                    yield _record(parts, f"{path}, member {key}")
                    parts = {}
                key = stem
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    parts[extension] = file.read()
            if parts:
                yield _record(parts, f"{path}, member {key}")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is no whole tar file: {error}.") from error


def _record(parts: dict[str, bytes], where: str) -> Record:
    pictures = [value for name, value in parts.items() if name not in ("json", "txt", "cls")]
    if len(pictures) != 1:
        raise DataError(f"{where}: expected one picture, got {len(pictures)} (parts: {', '.join(sorted(parts))}).")
    try:
        fields = json.loads(parts.get("json", b"{}"))
        if not fields.get("captions") and "txt" in parts:
            fields["captions"] = [parts["txt"].decode()]
    except (ValueError, AttributeError) as error:
        raise DataError(f"{where}: the texts are not valid: {error}.") from error
    return record_from_fields(fields, where, id=str(fields.get("id", where)), image_bytes=pictures[0])


def _fields(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "captions": list(record.captions),
        "qa": [asdict(item) for item in record.qa],
        "entailment": [{"hypothesis": item.text, "label": item.label} for item in record.hypotheses],
        "regions": [asdict(item) for item in record.regions],
        "class": record.label,
    }
    return {"id": record.id} | {name: value for name, value in fields.items() if value}


def _encoded(record: Record) -> tuple[bytes, str]:
    if record.image_bytes is not None:
        return record.image_bytes, "img"
    if record.draw is not None:
        buffer = io.BytesIO()
        record.draw().save(buffer, format="PNG")
        return buffer.getvalue(), "png"
    assert record.image_path is not None  # Record.__post_init__
    try:
        return record.image_path.read_bytes(), record.image_path.suffix.lstrip(".").lower() or "img"
    except OSError as error:
        raise DataError(f"The picture of record {record.id!r} cannot be read: {error}.") from error


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _expand(pattern: str) -> list[str]:
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if braces is None:
        return [pattern]
    first, last = braces.groups()
    numbers = range(int(first), int(last) + 1)
    return [f"{pattern[: braces.start()]}{n:0{len(first)}d}{pattern[braces.end() :]}" for n in numbers]


def _check_shard(path: Path) -> None:
    index = path.parent / INDEX
    expected = read_json(index).get(path.name) if index.exists() else None
    if expected is not None and expected["sha256"] != _sha256(path):
        raise DataError(f"{path} is not the file that {index} lists: its SHA-256 differs. Write or copy it again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
