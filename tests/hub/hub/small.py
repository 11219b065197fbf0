"""A student's and a bundle's folder as small as they can be: real formats, no torch, made in a millisecond."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from vlkd_hub.bundle import GenerationSpec, Manifest, write_manifest

CODE = ("configuration_vlkd.py", "modeling_vlkd.py", "outputs_vlkd.py", "processing_vlkd.py", "vision_tower.py")
BUNDLE_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "golden/expected.json",
    "onnx/image_encoder.onnx",
    "onnx/text_encoder.onnx",
    "onnx/cross_attention.onnx",
    "onnx/decoder.onnx",
)
PARITY = {
    "atol": 1e-4,
    "tensors": [{"graph": "decoder", "max_abs": 1.2e-5, "scaled": 1e-6, "cosine": 0.99999999, "cases": 3}],
    "tokens": {"drawn": [{"task": "caption", "num_beams": 1, "texts": 16, "tokens": 80, "smallest_margin": 0.1}]},
}


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    """The bytes of a file with that header, right or wrong."""
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def good_weights() -> bytes:
    """Two tensors, six numbers."""
    entries = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [2], "data_offsets": [16, 20]},
    }
    return safetensors(entries, bytes(range(20)))


def write_student(folder: Path, **config: Any) -> Path:
    """A folder as a training run leaves it: the student, and much that is nobody else's business."""
    folder.mkdir(parents=True)
    heads = {"AutoConfig": "configuration_vlkd.VlkdConfig", "AutoModel": "modeling_vlkd.VlkdModel"}
    told = {"model_type": "vlkd", "auto_map": heads, "text_encoder": {"_name_or_path": "/home/me/models/minilm"}}
    (folder / "config.json").write_text(json.dumps(told | config))
    processor = {"auto_map": {"AutoProcessor": "processing_vlkd.VlkdProcessor"}, "tasks": {}}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "lineage.json").write_text(json.dumps({"teacher": "/data/teachers/clip", "recipe": "vlkd.yaml"}))
    (folder / "model.safetensors").write_bytes(good_weights())
    imports = {"modeling_vlkd.py": ("configuration_vlkd", "outputs_vlkd", "vision_tower")}
    for name in CODE:
        lines = [f"from .{module} import something" for module in imports.get(name, ())]
        (folder / name).write_text("\n".join([f"# {name}", *lines]) + "\n")
    for name in ("optimizer.pt", "rng_state.pth", "train_metrics.json", "notes.txt", "unused.py"):
        (folder / name).write_text("not for others")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "model.safetensors").write_bytes(good_weights())
    return folder


def write_bundle(folder: Path, **fields: Any) -> Path:
    """A bundle whose files hold their own names, with a manifest that fits them."""
    for name in BUNDLE_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    spec = GenerationSpec(
        decoder_start_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        forced_bos_token_id=None,
        num_layers=2,
        num_heads=4,
        head_dim=16,
        vocab_size=100,
    )
    known: dict[str, Any] = {
        "model_type": "vlkd",
        "created": "2025-01-01T00:00:00Z",
        "opset": 20,
        "precision": "fp32",
        "embedding_dim": 8,
        "image_size": 32,
        "generation": spec,
        "library_versions": {},
        "tasks": {},
        "parity": PARITY,
        "lineage": {"student_sha256": "ab" * 32},
    }
    write_manifest(folder, Manifest(**(known | fields)))
    return folder
