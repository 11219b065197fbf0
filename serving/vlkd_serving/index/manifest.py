"""``MANIFEST``: the one file that says which generation of an index is the committed one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "PREVIOUS_NAME",
    "IndexManifest",
    "commit_manifest",
    "read_manifest",
]

FORMAT = "vlkd-index"
FORMAT_VERSION = 1
MANIFEST_NAME = "MANIFEST"
PREVIOUS_NAME = "MANIFEST.prev"


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """What a committed generation is made of.

    Args:
        generation: its number; the files lie in ``gen-<number>``.
        fingerprint: the embedding space (weights, preprocessing, dimension, normalisation, precision) as hex.
        embedding_dim: width of a vector.
        ntotal: number of items.
        kind: FAISS structure; ``flat`` is exact inner product on L2-normalised fp32 vectors.
        image_root: folder that the items' picture paths start from, or None for an index without pictures.
        created: UTC time, ISO 8601.
        files: file name in the generation's folder -> ``{"size": bytes, "sha256": hex}``.
    """

    generation: int
    fingerprint: str
    embedding_dim: int
    ntotal: int
    kind: str
    image_root: str | None
    created: str
    files: dict[str, dict[str, Any]]

    @property
    def folder(self) -> str:
        """Name of the generation's folder."""
        return f"gen-{self.generation:06d}"

    def to_bytes(self) -> bytes:
        """JSON with its own checksum."""
        body = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps({**body, "checksum": _checksum(body)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes, source: Path) -> IndexManifest:
        """Parse and check a manifest.

        Raises:
            IndexCorruptError: not JSON, another format or version, a wrong checksum, a missing or extra field.
        """
        try:
            body = json.loads(content)
            checksum = body.pop("checksum")
            form, version = body.pop("format"), body.pop("format_version")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise IndexCorruptError(
                f"{source} is not an index manifest: it is damaged or not written by vlkd."
            ) from None
        if checksum != _checksum({"format": form, "format_version": version, **body}):
            raise IndexCorruptError(f"{source} was changed after it was written: its checksum does not match.")
        if form != FORMAT or version != FORMAT_VERSION:
            raise IndexCorruptError(
                f"{source} holds format {form!r} version {version!r}; this version reads {FORMAT!r} version "
                f"{FORMAT_VERSION}. Build the index again with `vlkd index build`."
            )
        try:
            return cls(**body)
        except TypeError:
            raise IndexCorruptError(f"{source} lacks a field or holds an unknown one.") from None


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(directory: Path, name: str = MANIFEST_NAME) -> IndexManifest | None:
    """The manifest of an index folder, or None where the file does not exist.

    Raises:
        IndexCorruptError: it exists and cannot be trusted.
    """
    path = directory / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
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
    if before is not None:
        fsio.write_bytes(directory / f"{PREVIOUS_NAME}.tmp", before.to_bytes())
        fsio.replace(directory / f"{PREVIOUS_NAME}.tmp", directory / PREVIOUS_NAME)
    fsio.write_bytes(directory / f"{MANIFEST_NAME}.tmp", manifest.to_bytes())
    fsio.replace(directory / f"{MANIFEST_NAME}.tmp", current)
