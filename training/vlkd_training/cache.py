"""Features of frozen towers, computed once and memory-mapped ever after."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from vlkd_hub.errors import DataError

from .row_array import open_rows

__all__ = ["SHARD_BYTES", "ArraySpec", "FeatureCache", "fingerprint", "weights_fingerprint"]

SHARD_BYTES = 2 << 30
"""Largest size of one file of a cache."""

_console = Console(stderr=True)


@dataclass(frozen=True)
class ArraySpec:
    """One array of a cache.

    Attributes:
        shape: of the whole array.
        dtype: ``"float16"``, ``"float32"``, ``"int64"``; or ``"int8"``, which keeps the largest absolute value along
            the last axis beside each vector and reads back as fp16.
        lead: how many leading axes count rows: 1, or 2 for (views, pictures).
    """

    shape: tuple[int, ...]
    dtype: str = "float16"
    lead: int = 1

    @property
    def nbytes(self) -> int:
        """Size on disk in bytes, headers aside."""
        scales = 2 * int(np.prod(self.shape[:-1])) if self.dtype == "int8" else 0
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize + scales


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return a short hash of a JSON-like description."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_fingerprint(module: torch.nn.Module) -> str:
    """Return a short hash over every parameter and buffer: the identity of a frozen teacher."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()[:16]


class FeatureCache:
    """Named arrays of one (data, teacher, preprocessing) triple, in one folder, opened read-only.

    Args:
        folder: ``<root>/<fingerprint of key>``; holds ``meta.json`` and one ``.npy`` an array, or several where an
            array is larger than one file may be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = json.loads((folder / "meta.json").read_text())
        self.arrays: dict[str, Any] = {}
        self.files: dict[str, np.ndarray] = {}
        for name, described in self.meta["arrays"].items():
            self.arrays[name], files = open_rows(
                folder,
                name,
                tuple(described["shape"]),
                described["dtype"],
                lead=described.get("lead", 1),
                shard_bytes=self.meta.get("shard_bytes", SHARD_BYTES),
                mode="r",
            )
            self.files |= files

    def __getitem__(self, name: str) -> Any:
        return self.arrays[name]

    @classmethod
    def open_or_build(
        cls,
        root: Path,
        key: Mapping[str, Any],
        specs: Mapping[str, ArraySpec],
        fill: Callable[[dict[str, Any]], None],
        shard_bytes: int | None = None,
    ) -> FeatureCache:
        """Open the cache of ``key``; when it is absent or damaged, build it first.

        The size is printed before anything is written. A cache becomes visible by one rename, so a killed build
        leaves nothing that a later run would trust. Of several processes one builds; the others wait for it.

        Args:
            root: folder of all caches.
            key: what the features depend on; another key is another cache.
            specs: the arrays to make.
            fill: writes every array in place.
            shard_bytes: largest size of one file; :data:`SHARD_BYTES` where left out.

        Raises:
            DataError: the disk has no room for it.
        """
        folder = root / fingerprint(key)
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{folder.name}.lock"):
            fault = cls._fault(folder, specs)
            if fault is None:
                _console.print(f"Features: read from cache [dim]{folder.name}[/dim]", highlight=False)
                return cls(folder)
            if folder.exists():
                _console.print(f"[yellow]Features: {folder.name} is built again: {fault}.[/yellow]", highlight=False)
            _announce(root, folder.name, sum(spec.nbytes for spec in specs.values()))
            work = root / f"building-{folder.name}"
            shutil.rmtree(work, ignore_errors=True)  # of a process that was killed: the lock is ours
            work.mkdir()
            try:
                cls._build(work, key, specs, fill, shard_bytes or SHARD_BYTES)
                if folder.exists():
                    shutil.rmtree(folder)
                work.rename(folder)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        return cls(folder)

    @staticmethod
    def _build(
        work: Path,
        key: Mapping[str, Any],
        specs: Mapping[str, ArraySpec],
        fill: Callable[[dict[str, Any]], None],
        shard_bytes: int,
    ) -> None:
        arrays: dict[str, Any] = {}
        files: dict[str, Any] = {}
        for name, spec in specs.items():
            arrays[name], made = open_rows(
                work, name, spec.shape, spec.dtype, lead=spec.lead, shard_bytes=shard_bytes, mode="w+"
            )
            files |= made
        fill(dict(arrays))
        for file in files.values():
            file.flush()
        described = {n: {"shape": spec.shape, "dtype": spec.dtype, "lead": spec.lead} for n, spec in specs.items()}
        meta = {"key": dict(key), "arrays": described, "shard_bytes": shard_bytes, "sums": _sums(files)}
        (work / "meta.json").write_text(json.dumps(meta, indent=1, default=str))

    @staticmethod
    def _fault(folder: Path, specs: Mapping[str, ArraySpec]) -> str | None:
        """Why the folder cannot be used; ``None`` when every array has its shape, dtype and closing content."""
        if not (folder / "meta.json").exists():
            return "it has no meta.json"
        try:
            cache = FeatureCache(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"it cannot be opened ({error})"
        found = {name: (list(item["shape"]), item["dtype"]) for name, item in cache.meta["arrays"].items()}
        if found != {name: (list(spec.shape), spec.dtype) for name, spec in specs.items()}:
            return "it holds other arrays"
        sums = _sums(cache.files)
        stated = cache.meta.get("sums", {})
        damaged = sorted(name for name, value in sums.items() if stated.get(name) != value)
        return f"{', '.join(damaged)} changed since it was written" if damaged else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; released too when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _announce(root: Path, name: str, size: int) -> None:
    """Print the size of a cache before it is written."""
    _console.print(f"Features: writing {size / 2**20:,.0f} MiB to cache [dim]{name}[/dim]", highlight=False)
    free = shutil.disk_usage(root).free
    if size > free:
        raise DataError(
            f"The features need {size / 2**30:.1f} GiB and {root} has {free / 2**30:.1f} GiB free. Give another folder "
            "with --cache, halve them with --cache-dtype int8, or train on fewer pictures with --limit."
        )


def _sums(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Checksums of the arrays' bytes."""
    sums = {}
    for name, array in arrays.items():
        digest = hashlib.blake2b(digest_size=16)
        rows = max(1, 2**24 // max(1, array[:1].nbytes))
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
        sums[name] = digest.hexdigest()
    return sums
