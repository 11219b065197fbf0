"""The manifest refuses what it did not write: changed files, links, paths that leave the folder, odd fields."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.bundle import (
    FORMAT_VERSION,
    GenerationSpec,
    Manifest,
    embedding_fingerprint,
    read_manifest,
    write_manifest,
)
from vlkd_hub.errors import BundleError

FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "onnx/image_encoder.onnx",
    "onnx/image_encoder.onnx.data",
    "onnx/text_encoder.onnx",
    "onnx/cross_attention.onnx",
    "onnx/decoder.onnx",
)

DRAFT = Manifest(
    model_type="vlkd",
    created="2025-01-01T00:00:00Z",
    opset=20,
    precision="fp32",
    embedding_dim=256,
    image_size=160,
    generation=GenerationSpec(
        decoder_start_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        forced_bos_token_id=None,
        num_layers=2,
        num_heads=4,
        head_dim=16,
        vocab_size=100,
    ),
    library_versions={"onnx": "1.19"},
    tasks={"caption": {"num_masks": 6}},
    parity={"image_embeds": 1e-6},
    lineage={},
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose files hold their own names."""
    folder = tmp_path / "bundle"
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    write_manifest(folder, DRAFT)
    return folder


def edit(bundle: Path, **changes: Any) -> None:
    """Change top-level fields of the manifest on disk; a value of ... removes the field.

    The checksum is taken out, so that what is checked after it is reached.
    """
    path = bundle / "manifest.json"
    data = json.loads(path.read_text()) | {"checksum": ""} | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def test_what_is_written_is_read(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    found = {name: getattr(manifest, name) for name in ("files", "fingerprint", "checksum")}
    assert manifest == replace(DRAFT, **found)
    assert set(manifest.files) == set(FILES)
    assert list(json.loads((bundle / "manifest.json").read_text()))[:2] == ["format", "format_version"]


def test_writing_again_gives_the_same(bundle: Path) -> None:
    """The manifest must not hash itself, nor a leftover of an interrupted write."""
    before = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json.tmp").write_text("half")
    write_manifest(bundle, DRAFT)
    assert (bundle / "manifest.json").read_text() == before


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(bundle: Path, name: str) -> None:
    """Same size, one byte changed: only the SHA-256 can tell."""
    content = bytearray((bundle / name).read_bytes())
    content[0] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file that was exported.*vlkd export"):
        read_manifest(bundle)
    assert read_manifest(bundle, verify=False).model_type == "vlkd"


@pytest.mark.parametrize("verify", [True, False])
def test_an_absent_file_is_refused(bundle: Path, verify: bool) -> None:
    (bundle / "onnx/decoder.onnx").unlink()
    with pytest.raises(BundleError, match="lacks onnx/decoder.onnx"):
        read_manifest(bundle, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
def test_links_are_refused(bundle: Path, tmp_path: Path, verify: bool) -> None:
    """A link in the folder can point at any file of the machine, even with the right content today."""
    target = bundle / "onnx/decoder.onnx"
    target.rename(tmp_path / "elsewhere.onnx")
    target.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match="reached by a link"):
        read_manifest(bundle, verify=verify)


def test_a_linked_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "onnx").rename(tmp_path / "onnx")
    (bundle / "onnx").symlink_to(tmp_path / "onnx")
    with pytest.raises(BundleError, match="reached by a link"):
        read_manifest(bundle)


def test_a_pipe_is_refused_without_waiting(bundle: Path) -> None:
    """Opening a named pipe would hang the server's start."""
    (bundle / "config.json").unlink()
    os.mkfifo(bundle / "config.json")
    with pytest.raises(BundleError, match="not a plain file"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../b", "./config.json", "a//b", "a\\b", "C:file", "nul\0", "", ".."]
)
def test_paths_that_leave_the_folder_are_refused(bundle: Path, path: str) -> None:
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit(bundle, files=files | {path: {"sha256": "0" * 64, "size": 0}})
    with pytest.raises(BundleError, match="not a plain path inside the bundle"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "has format_version 2 and this vlkd-hub reads 1.*Install"),
        ({"format_version": True}, "has format_version True"),
        ({"format": "other"}, "not that of a bundle"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"opset": ...}, "missing field 'opset'"),
        ({"opset": "20"}, "opset: expected int, found str"),
        ({"opset": True}, "opset: expected int, found bool"),
        ({"embedding_dim": 0}, "embedding_dim is 0, expected 1 or more"),
        ({"precision": "fp8"}, "precision is 'fp8', expected one of"),
        ({"fingerprint": "0" * 64}, "fingerprint is not that of the files"),
        ({"files": {}}, "lacks onnx/image_encoder.onnx"),
        ({"files": {"config.json": {"sha256": "xyz", "size": 1}}}, "SHA-256 of 'config.json' is malformed"),
        ({"files": {"config.json": {"sha256": "A" * 64, "size": 1}}}, "SHA-256 of 'config.json' is malformed"),
        ({"generation": {"eos_token_id": 2}}, "generation: missing field"),
    ],
)
def test_odd_fields_are_refused(bundle: Path, changes: dict[str, Any], message: str) -> None:
    """Each message names the field, so that a person can tell a newer format from a damaged one."""
    edit(bundle, **changes)
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)


@pytest.mark.parametrize("field", ["eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id"])
def test_token_ids_lie_in_the_vocabulary(bundle: Path, field: str) -> None:
    """A token id outside the vocabulary would be an index error in the middle of a request."""
    generation = json.loads((bundle / "manifest.json").read_text())["generation"]
    edit(bundle, generation=generation | {field: 100})
    with pytest.raises(BundleError, match=f"{field} is 100, outside the vocabulary"):
        read_manifest(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", "[" * 100_000])
def test_a_damaged_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match="manifest.json"):
        read_manifest(bundle)


def test_a_changed_figure_is_refused(bundle: Path) -> None:
    """Nothing else would tell: a parity of another bundle reads as well as its own."""
    checksum = read_manifest(bundle).checksum
    edit(bundle, parity={"image_embeds": 1e-9}, checksum=checksum)
    with pytest.raises(BundleError, match="its own checksum differs"):
        read_manifest(bundle, verify=False)


def test_every_changed_byte_of_the_manifest_is_refused(bundle: Path) -> None:
    """White space too: the checksum is over the bytes, so no reader has to agree on what may differ."""
    path = bundle / "manifest.json"
    good = path.read_bytes()
    for position in range(len(good)):
        flip = 7 if good[position] == 0x0A else (1, 0x20)[position % 2]  # 7 turns a line end into the other one
        path.write_bytes(good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :])
        with pytest.raises(BundleError):
            read_manifest(bundle, verify=False)


def test_a_manifest_of_version_0_1_0_has_no_checksum(bundle: Path) -> None:
    edit(bundle, checksum=..., evaluation=..., latency=..., quantization=...)
    assert read_manifest(bundle).checksum == ""


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle: it holds no manifest.json"):
        read_manifest(tmp_path)


def test_an_incomplete_export_is_not_written(bundle: Path) -> None:
    """A bundle that the runtime cannot run must fail where it is made."""
    (bundle / "manifest.json").unlink()
    (bundle / "onnx/cross_attention.onnx").unlink()
    with pytest.raises(BundleError, match="lacks onnx/cross_attention.onnx"):
        write_manifest(bundle, DRAFT)
    assert not (bundle / "manifest.json").exists()


def test_a_bundle_that_only_embeds_needs_no_decoder(bundle: Path) -> None:
    for name in ("onnx/cross_attention.onnx", "onnx/decoder.onnx", "processor_config.json"):
        (bundle / name).unlink()
    write_manifest(bundle, replace(DRAFT, generation=None))
    assert read_manifest(bundle).generation is None


@pytest.mark.parametrize("name", FILES)
def test_fingerprint_changes_with_what_decides_a_vector(bundle: Path, name: str) -> None:
    """An index is refused when its fingerprint differs, so it must differ for encoders and not for the decoder."""
    before = read_manifest(bundle).fingerprint
    (bundle / name).write_text("other")
    after = write_manifest(bundle, DRAFT).fingerprint
    decides = name in ("preprocessor_config.json", "tokenizer.json") or "encoder.onnx" in name
    assert (after != before) == decides


def test_fingerprint_changes_with_dimension_and_precision(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    others = [replace(manifest, embedding_dim=128), replace(manifest, precision="int8")]
    assert len({embedding_fingerprint(item) for item in [manifest, *others]}) == 3
