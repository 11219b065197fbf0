"""Features of frozen towers, computed once and memory-mapped ever after."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

__all__ = ["ArraySpec", "FeatureCache", "fingerprint", "weights_fingerprint"]

_console = Console(stderr=True)


@dataclass(frozen=True)
class ArraySpec:
    """One array of a cache: shape and dtype (``"float16"``, ``"float32"``, ``"int64"``)."""

    shape: tuple[int, ...]
    dtype: str = "float16"

    @property
    def nbytes(self) -> int:
        """Size on disk in bytes, headers aside."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


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
        folder: ``<root>/<fingerprint of key>``; holds ``meta.json`` and one ``.npy`` an array.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = json.loads((folder / "meta.json").read_text())
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.meta["arrays"]}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @classmethod
    def open_or_build(
        cls,
        root: Path,
        key: Mapping[str, Any],
        specs: Mapping[str, ArraySpec],
        fill: Callable[[dict[str, np.ndarray]], None],
    ) -> FeatureCache:
        """Open the cache of ``key``; when it is absent or damaged, build it first.

        The size is printed before anything is written. A cache becomes visible by one rename, so a killed build
        leaves nothing that a later run would trust.

        Args:
            root: folder of all caches.
            key: what the features depend on; another key is another cache.
            specs: the arrays to make.
            fill: writes every array in place.
        """
        folder = root / fingerprint(key)
        if cls._is_sound(folder, specs):
            _console.print(f"Features: read from cache [dim]{folder.name}[/dim]", highlight=False)
            return cls(folder)
        size = sum(spec.nbytes for spec in specs.values())
        _console.print(f"Features: writing {size / 2**20:,.0f} MiB to cache [dim]{folder.name}[/dim]", highlight=False)
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="building-", dir=root))
        try:
            arrays: dict[str, np.memmap] = {
                name: np.lib.format.open_memmap(work / f"{name}.npy", mode="w+", dtype=spec.dtype, shape=spec.shape)
                for name, spec in specs.items()
            }
            fill(dict(arrays))
            for array in arrays.values():
                array.flush()
            described = {name: {"shape": spec.shape, "dtype": spec.dtype} for name, spec in specs.items()}
            meta = {"key": dict(key), "arrays": described, "sums": _sums(arrays)}
            (work / "meta.json").write_text(json.dumps(meta, indent=1, default=str))
            if folder.exists():
                shutil.rmtree(folder)
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return cls(folder)

    @staticmethod
    def _is_sound(folder: Path, specs: Mapping[str, ArraySpec]) -> bool:
        """Whether the folder holds every array, in the right shape, with the content it was closed with."""
        if not (folder / "meta.json").exists():
            return False
        try:
            cache = FeatureCache(folder)
        except (OSError, ValueError, KeyError):
            return False
        same = {name: list(array.shape) for name, array in cache.arrays.items()} == {
            name: list(spec.shape) for name, spec in specs.items()
        }
        return same and cache.meta.get("sums") == _sums(cache.arrays)


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
