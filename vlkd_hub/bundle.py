"""The bundle: a folder with a student as ONNX graphs, its tokenizer and settings, and a manifest of every file.

The exporter writes it, the runtime and the server read it, so this module needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vlkd_hub._schema import strict_dataclass
from vlkd_hub.errors import BundleError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "BundleFile",
    "GenerationSpec",
    "Manifest",
    "MatchingSpec",
    "embedding_fingerprint",
    "read_manifest",
    "write_manifest",
]

FORMAT = "vlkd-bundle"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
PRECISIONS = ("fp32", "fp16", "int8", "int4")
EXPORT_AGAIN = "Export the student again: vlkd export STUDENT --output BUNDLE"

EMBEDDING_FILES = ("onnx/image_encoder.onnx", "onnx/text_encoder.onnx", "preprocessor_config.json", "tokenizer.json")
MATCHING_FILES = ("onnx/image_tokens.onnx", "onnx/text_tokens.onnx")
GENERATION_FILES = ("onnx/cross_attention.onnx", "onnx/decoder.onnx", "processor_config.json")


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """Identity of one file."""

    sha256: str
    """Lower-case hexadecimal, 64 characters."""
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class GenerationSpec:
    """What a caller of the decoder graph must know: special tokens and the shape of the key/value cache."""

    decoder_start_token_id: int
    eos_token_id: int
    pad_token_id: int
    forced_bos_token_id: int | None
    num_layers: int
    num_heads: int
    head_dim: int
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class MatchingSpec:
    """What the graphs ``image_tokens`` and ``text_tokens`` give: unit vectors of patches and of words."""

    rows: int
    columns: int
    width: int
    """Numbers in a vector."""
    attention: bool
    """Whether ``image_tokens`` gives the self-attention of the patches too. A shared MLP has none to give."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """``manifest.json``.

    ``fingerprint`` names the embedding space: two bundles with the same one may share an index.
    ``generation`` is None for a bundle that only embeds.
    """

    model_type: str
    created: str
    """UTC, ISO 8601."""
    opset: int
    precision: str
    """``fp32``, ``fp16``, ``int8`` or ``int4``: of the graphs' formats the one with the fewest bits."""
    embedding_dim: int
    image_size: int
    """Pixels, the side of the square that the image encoder takes."""
    generation: GenerationSpec | None
    library_versions: dict[str, str]
    tasks: dict[str, Any]
    parity: dict[str, Any]
    lineage: dict[str, Any]
    task: str = ""
    """What it was exported for, in the Hub's words: ``image-text-to-text``, ``feature-extraction`` ..."""
    parameters: int | None = None
    """Numbers in the model that was exported, shared tables counted once."""
    fixed_shapes: dict[str, int] = field(default_factory=dict)
    """``batch`` and ``length`` (tokens) where the encoders take one size only; empty where they take any."""
    clean_up: list[Any] = field(default_factory=list)
    """Each step of graph clean-up that was tried: kept or dropped, and what was measured."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """What ``vlkd evaluate`` reported of this very bundle."""
    latency: dict[str, Any] = field(default_factory=dict)
    """Milliseconds, with the machine and its load."""
    quantization: dict[str, Any] = field(default_factory=dict)
    matching: MatchingSpec | None = None
    """None for a bundle without the graphs that match words with patches."""
    fingerprint: str = ""
    files: dict[str, BundleFile] = field(default_factory=dict)
    checksum: str = ""
    """SHA-256 of this file's own bytes with an empty string here; bundles of version 0.1.0 have none."""
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of ``manifest.json``; the format comes first."""
        head = {"format": self.format, "format_version": self.format_version}
        return json.dumps(head | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse and check ``manifest.json``.

        Raises:
            BundleError: the text is not JSON, is of another format or version, or a field is missing, unknown, of the
                wrong type or out of range. The message says what to do.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{MANIFEST_NAME} is not valid JSON ({error}). {EXPORT_AGAIN}") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BundleError(f'{MANIFEST_NAME} is not that of a bundle: it must hold "format": "{FORMAT}".')
        version = data.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise BundleError(
                f"This bundle has format_version {version!r} and this vlkd-hub reads {FORMAT_VERSION}. "
                f"Install the vlkd-hub that wrote it, or export the student again with this one."
            )
        try:
            manifest = strict_dataclass(cls, data, MANIFEST_NAME)
            _check_values(manifest)
        except ValueError as error:
            raise BundleError(f"{error}. {EXPORT_AGAIN}") from error
        return manifest


def _check_values(manifest: Manifest) -> None:
    if manifest.precision not in PRECISIONS:
        raise ValueError(f"{MANIFEST_NAME}: precision is {manifest.precision!r}, expected one of {PRECISIONS}")
    sizes = {name: getattr(manifest, name) for name in ("opset", "embedding_dim", "image_size")}
    if manifest.generation is not None:
        ids = asdict(manifest.generation)
        sizes |= {name: ids.pop(name) for name in ("num_layers", "num_heads", "head_dim", "vocab_size")}
        for name, token in ids.items():
            if token is not None and not 0 <= token < manifest.generation.vocab_size:
                raise ValueError(f"{MANIFEST_NAME}: {name} is {token}, outside the vocabulary")
    if manifest.matching is not None:
        sizes |= {name: getattr(manifest.matching, name) for name in ("rows", "columns", "width")}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{MANIFEST_NAME}: {name} is {value}, expected 1 or more")
    for path, entry in manifest.files.items():
        _check_relative(path)
        if len(entry.sha256) != 64 or set(entry.sha256) - set("0123456789abcdef") or entry.size < 0:
            raise ValueError(f"{MANIFEST_NAME}: the size or SHA-256 of {path!r} is malformed")


def _check_relative(path: str) -> None:
    """Reject a path that could leave the folder, or that another system would read differently."""
    parts = path.split("/")
    plain = PurePosixPath(path).as_posix() == path and not path.startswith("/")
    if not plain or any(part in ("", ".", "..") for part in parts) or any(c in path for c in "\\:\0"):
        raise ValueError(f"{MANIFEST_NAME}: the path {path!r} is not a plain path inside the bundle")


def _regular_file(directory: Path, path: str) -> Path:
    """The file at ``path``, reached without any link."""
    here = directory
    for part in PurePosixPath(path).parts:
        here = here / part
        try:
            mode = here.lstat().st_mode
        except OSError as error:
            raise BundleError(f"The bundle {directory} lacks {path}. {EXPORT_AGAIN}") from error
        if stat.S_ISLNK(mode):
            raise BundleError(
                f"In the bundle {directory}, {path} is reached by a link. Copy the bundle as plain files: cp -rL, or "
                f"`hf download` with --local-dir."
            )
    if not stat.S_ISREG(mode):
        raise BundleError(f"In the bundle {directory}, {path} is not a plain file. {EXPORT_AGAIN}")
    return here


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def embedding_fingerprint(manifest: Manifest) -> str:
    """Identity of the embedding space: hexadecimal SHA-256 over what decides a vector.

    Covers the two encoders (with their external weights), the tokenizer, the preprocessing, the dimension and the
    precision; ``manifest.files`` must be filled.
    """
    deciding = {
        path: entry.sha256
        for path, entry in manifest.files.items()
        if path in EMBEDDING_FILES or path.startswith(tuple(f"{name}." for name in EMBEDDING_FILES[:2]))
    }
    facts = {"files": deciding, "embedding_dim": manifest.embedding_dim, "precision": manifest.precision}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _checksum(text: str, noted: str) -> str:
    """SHA-256 of the manifest's text as it was before ``noted`` was put into it."""
    return hashlib.sha256(text.replace(f'"checksum": "{noted}"', '"checksum": ""').encode()).hexdigest()


def write_manifest(directory: str | Path, manifest: Manifest) -> Manifest:
    """Hash every file in ``directory``, then write ``manifest.json`` there in one step.

    Args:
        directory: the finished bundle.
        manifest: all but ``files``, ``fingerprint`` and ``checksum``, which are computed here.

    Returns:
        The manifest as written.

    Raises:
        BundleError: a file that the runtime needs is absent, or the folder holds a link.
    """
    directory = Path(directory)
    temporary = directory / f"{MANIFEST_NAME}.tmp"
    temporary.unlink(missing_ok=True)
    paths = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_symlink() or p.is_file())
    files = {}
    for path in paths:
        if path != MANIFEST_NAME:
            plain = _regular_file(directory, path)
            files[path] = BundleFile(sha256=_digest(plain), size=plain.stat().st_size)
    manifest = replace(manifest, files=files, checksum="")
    manifest = replace(manifest, fingerprint=embedding_fingerprint(manifest))
    _check_complete(manifest, directory)
    manifest = replace(manifest, checksum=_checksum(manifest.to_json(), ""))
    text = manifest.to_json()
    Manifest.from_json(text)
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, directory / MANIFEST_NAME)
    return manifest


def read_manifest(directory: str | Path, verify: bool = True) -> Manifest:
    """Read a bundle's manifest and, unless told otherwise, check every file against it.

    Args:
        directory: the bundle.
        verify: compare the size and SHA-256 of every file. Without it only presence is checked.

    Raises:
        BundleError: no manifest, one that cannot be used, or a file that is absent, a link, or not as it was written.
    """
    directory = Path(directory)
    if not (directory / MANIFEST_NAME).exists():
        raise BundleError(f"{directory} is not a bundle: it holds no {MANIFEST_NAME}. {EXPORT_AGAIN}")
    path = _regular_file(directory, MANIFEST_NAME)
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} is larger than {MAX_MANIFEST_BYTES >> 20} MiB, so it is no manifest. {EXPORT_AGAIN}")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is not UTF-8 text. {EXPORT_AGAIN}") from error
    manifest = Manifest.from_json(text)
    if manifest.checksum and manifest.checksum != _checksum(text, manifest.checksum):
        raise BundleError(f"{path} is not as it was written (its own checksum differs). {EXPORT_AGAIN}")
    _check_complete(manifest, directory)
    for name, entry in manifest.files.items():
        file = _regular_file(directory, name)
        if verify and (file.stat().st_size != entry.size or _digest(file) != entry.sha256):
            raise BundleError(f"{file} is not the file that was exported (size or SHA-256 differs). {EXPORT_AGAIN}")
    if manifest.fingerprint != embedding_fingerprint(manifest):
        raise BundleError(f"{path}: the fingerprint is not that of the files it lists. {EXPORT_AGAIN}")
    return manifest


def _check_complete(manifest: Manifest, directory: Path) -> None:
    needed = EMBEDDING_FILES + (GENERATION_FILES if manifest.generation is not None else ())
    needed += MATCHING_FILES if manifest.matching is not None else ()
    absent = [name for name in needed if name not in manifest.files]
    if absent:
        raise BundleError(f"The bundle {directory} lacks {', '.join(absent)}. {EXPORT_AGAIN}")
