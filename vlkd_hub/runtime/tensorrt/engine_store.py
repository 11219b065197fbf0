"""Built engines on disk, found again by what decides them, and never used half-written or damaged.

An engine fits one graph, one TensorRT, one kind of GPU and one set of profiles. Another process that looks for it
computes the same key; a file that does not hold what was written is set aside and built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkd_hub.errors import BundleError
from vlkd_hub.runtime.external_data import external_data
from vlkd_hub.runtime.tensorrt.profiles import Profile, profile_to_json

__all__ = ["EngineKey", "EngineStore", "onnx_digest"]

ENGINE, FACTS, DAMAGED, TIMING = ".engine", ".json", ".damaged", "timing.cache"


def onnx_digest(path: str | Path) -> str:
    """SHA-256 over an ONNX file and the weight files that it names, hexadecimal.

    Raises:
        BundleError: a file is absent, or the ONNX file is not well-formed.
    """
    path = Path(path)
    try:
        names = sorted({reference.location for reference in external_data(path)})
        digest = hashlib.sha256()
        for file in (path, *(path.parent / name for name in names)):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}). Export the student again.") from error
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """Everything that decides an engine."""

    graph: str
    onnx_sha256: str
    """See :func:`onnx_digest`; the precision is in the graph's own types."""
    tensorrt_version: str
    compute_capability: str
    """For example ``"9.0"``."""
    profiles: Sequence[Profile]
    options: tuple[tuple[str, str], ...] = ()
    """Settings of the builder that change the engine."""

    def facts(self) -> dict[str, Any]:
        """The key as JSON."""
        return {
            "graph": self.graph,
            "onnx_sha256": self.onnx_sha256,
            "tensorrt_version": self.tensorrt_version,
            "compute_capability": self.compute_capability,
            "profiles": [profile_to_json(profile) for profile in self.profiles],
            "options": dict(sorted(self.options)),
        }

    @property
    def name(self) -> str:
        """Name of the engine's files: readable, and different for any two keys."""
        digest = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()
        return f"{self.graph}-sm{self.compute_capability}-trt{self.tensorrt_version}-{digest[:16]}"


class EngineStore:
    """A folder of engines.

    Writing is atomic (a temporary file, then a rename) and the engine goes first, its facts with the SHA-256 last: an
    engine without facts does not exist. Several processes may share the folder.

    Args:
        directory: made when the first engine is written.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def load(self, key: EngineKey) -> bytes | None:
        """The engine, or None where it was never built or is damaged (then it is set aside as ``*.damaged``)."""
        engine, facts = self._paths(key)
        try:
            noted = json.loads(facts.read_text(encoding="utf-8"))
            data = engine.read_bytes()
        except (OSError, ValueError):
            return None
        whole = isinstance(noted, dict) and noted.get("engine_sha256") == hashlib.sha256(data).hexdigest()
        if whole and noted.get("key") == key.facts():
            return data
        facts.unlink(missing_ok=True)
        os.replace(engine, engine.with_name(engine.name + DAMAGED))
        return None

    def save(self, key: EngineKey, engine: bytes, notes: dict[str, Any] | None = None) -> Path:
        """Write an engine; another one of the same key is replaced.

        Args:
            key: what decides it.
            engine: as TensorRT serialised it.
            notes: anything worth keeping beside it, for example the seconds it took to build.

        Returns:
            Path of the engine.
        """
        path, facts = self._paths(key)
        facts.unlink(missing_ok=True)
        self._write(path, engine)
        noted = {"key": key.facts(), "engine_sha256": hashlib.sha256(engine).hexdigest(), "notes": notes or {}}
        self._write(facts, (json.dumps(noted, indent=2) + "\n").encode())
        return path

    def load_timing_cache(self) -> bytes:
        """What former builds measured of single layers; empty at first. TensorRT itself checks that it fits."""
        try:
            return (self.directory / TIMING).read_bytes()
        except OSError:
            return b""

    def save_timing_cache(self, data: bytes) -> None:
        """Keep the measurements for the next build."""
        self._write(self.directory / TIMING, data)

    def _paths(self, key: EngineKey) -> tuple[Path, Path]:
        return self.directory / f"{key.name}{ENGINE}", self.directory / f"{key.name}{FACTS}"

    def _write(self, path: Path, data: bytes) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.directory, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
