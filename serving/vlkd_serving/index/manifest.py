"""``MANIFEST``: the one file that says which generation of an index is the committed one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlkd_hub._schema import strict_dataclass
from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError
from vlkd_serving.index.roots import ImageRoot
from vlkd_serving.index.spec import Budget, Measured, Spec

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "PREVIOUS_NAME",
    "FileEntry",
    "IndexManifest",
    "commit_manifest",
    "read_manifest",
]

FORMAT = "vlkd-index"
FORMAT_VERSION = 2
MANIFEST_NAME = "MANIFEST"
PREVIOUS_NAME = "MANIFEST.prev"
_MAX_BYTES = 1 << 20
_FLAT = Spec(kind="flat", codec="fp32", factory="Flat")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Identity of one file of a generation."""

    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """What a committed generation is made of.

    Args:
        generation: its number; the files lie in ``gen-<number>``.
        epoch: which write-ahead log belongs to it; a new content begins a new one, a compaction goes on in the old.
        sequence: number of the last change that the generation holds; later ones are in the log.
        fingerprint: the embedding space (weights, preprocessing, dimension, normalisation, precision) as hex.
        space: a name for that space that people gave it, for example that of a teacher; or empty.
        compatible: fingerprints of other models that were declared, and measured, to query this index.
        embedding_dim: width of a vector.
        ntotal: number of items.
        spec: the FAISS structure.
        budget: what it was chosen by.
        measured: what it reached, or None where nothing was to measure.
        image_root: where the items' picture paths start, or None for an index without pictures.
        created: UTC time, ISO 8601.
        files: by name in the generation's folder.
        format_version: of the manifest that was read.
    """

    generation: int
    fingerprint: str
    embedding_dim: int
    ntotal: int
    created: str
    files: dict[str, FileEntry]
    image_root: ImageRoot | None
    epoch: int = 1
    sequence: int = 0
    space: str = ""
    compatible: list[str]
    spec: Spec
    budget: Budget
    measured: Measured | None
    format_version: int = FORMAT_VERSION

    @property
    def folder(self) -> str:
        """Name of the generation's folder."""
        return f"gen-{self.generation:06d}"

    @property
    def kind(self) -> str:
        """Structure and precision in words, for example ``ivf int8``."""
        return f"{self.spec.kind} {self.spec.codec}"

    def to_bytes(self) -> bytes:
        """JSON with its own checksum, in the present format."""
        body = {**asdict(self), "format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps({**body, "checksum": _checksum(body)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes, source: Path) -> IndexManifest:
        """Parse and check a manifest of this format or of format 1.

        Raises:
            IndexCorruptError: not JSON, another format or version, a wrong checksum, a field that is missing, unknown
                or of the wrong type.
        """
        try:
            body = json.loads(content)
            checksum = body.pop("checksum")
            form, version = body["format"], body["format_version"]
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise IndexCorruptError(
                f"{source} is not an index manifest: it is damaged or not written by vlkd."
            ) from None
        if checksum != _checksum(body):
            raise IndexCorruptError(f"{source} was changed after it was written: its checksum does not match.")
        if form != FORMAT or version not in (1, FORMAT_VERSION):
            raise IndexCorruptError(
                f"{source} holds format {form!r} version {version!r}; this version reads {FORMAT!r} version 1 and "
                f"{FORMAT_VERSION}. Build the index again with `vlkd index build`."
            )
        try:
            fields = {name: value for name, value in body.items() if name != "format"}
            manifest = strict_dataclass(cls, _upgrade(fields) if version == 1 else fields, source.name)
            _check_values(manifest)
        except (ValueError, KeyError, TypeError) as error:
            raise IndexCorruptError(f"{source} cannot be used: {error}.") from None
        return manifest


def _check_values(manifest: IndexManifest) -> None:
    numbers = {"generation": 1, "epoch": 1, "sequence": 0, "embedding_dim": 1, "ntotal": 0}
    for name, least in numbers.items():
        if getattr(manifest, name) < least:
            raise ValueError(f"{name} is {getattr(manifest, name)}, expected {least} or more")
    for name, entry in manifest.files.items():
        if name in ("", ".", "..") or "/" in name or "\x00" in name or entry.size < 0:
            raise ValueError(f"the file {name!r} is not a plain name with a size")


def _upgrade(old: dict[str, Any]) -> dict[str, Any]:
    """The fields of a format 1 manifest (always exact, always an absolute folder) in the words of format 2."""
    new = {name: value for name, value in old.items() if name not in ("kind", "image_root")}
    if old["kind"] != "flat":
        raise ValueError(f"kind is {old['kind']!r}, expected 'flat'")
    root = old["image_root"]
    return new | {
        "image_root": None if root is None else asdict(ImageRoot.absolute(root)),
        "compatible": [],
        "spec": asdict(_FLAT),
        "budget": asdict(Budget()),
        "measured": None,
    }


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(directory: Path, name: str = MANIFEST_NAME) -> IndexManifest | None:
    """The manifest of an index folder, or None where the file does not exist.

    Raises:
        IndexCorruptError: it exists and cannot be trusted.
    """
    path = directory / name
    try:
        content = fsio.read_regular(path, _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return IndexManifest.from_bytes(content, path)


def commit_manifest(directory: Path, manifest: IndexManifest) -> None:
    """Make ``manifest`` the committed one. The rename of ``MANIFEST`` is the only commit point.

    A readable manifest that is replaced is first kept as ``MANIFEST.prev``, the state to fall back on.
    """
    current = directory / MANIFEST_NAME
    try:
        before = read_manifest(directory)
    except IndexCorruptError:
        before = None  # a damaged manifest is no state to fall back on: keep the older MANIFEST.prev
    if before is not None and before.generation != manifest.generation:
        fsio.write_bytes(directory / f"{PREVIOUS_NAME}.tmp", before.to_bytes())
        fsio.replace(directory / f"{PREVIOUS_NAME}.tmp", directory / PREVIOUS_NAME)
    fsio.write_bytes(directory / f"{MANIFEST_NAME}.tmp", manifest.to_bytes())
    fsio.replace(directory / f"{MANIFEST_NAME}.tmp", current)
