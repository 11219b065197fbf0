"""A bundle appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlkd_export.onnx import export
from vlkd_export.onnx.export import export_bundle
from vlkd_export.onnx.graph import GraphSpec
from vlkd_export.settings import ExportSettings
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError, InvalidInputError, ParityError, WeightsError
from vlkd_hub.models import VlkdForConditionalGeneration
from vlkd_hub.runtime import OnnxStudent


def test_the_manifest_of_a_bundle(tiny_bundle: Path, tiny_student: Path) -> None:
    """Everything that a reader is told: shapes, versions, parity, where it comes from."""
    manifest = read_manifest(tiny_bundle)
    assert (manifest.model_type, manifest.precision, manifest.opset) == ("vlkd", "fp32", 18)
    assert (manifest.embedding_dim, manifest.image_size) == (8, 32)
    assert manifest.generation is not None and manifest.generation.head_dim == 8
    assert set(manifest.tasks) == {"caption", "vqa"}
    graphs = {"image_encoder", "text_encoder", "decoder", "search"}
    assert {item["graph"] for item in manifest.parity["tensors"]} == graphs
    assert manifest.parity["pictures"] == {"drawn": 16}
    assert manifest.task == "image-text-to-text" and manifest.fixed_shapes == {}
    assert manifest.parameters == manifest.lineage["parameters"] == 51457
    written = graphs - {"search"} | {"cross_attention"}
    assert {item["graph"] for item in manifest.clean_up} == written | {"greedy_decoder"}
    (greedy,) = (item for item in manifest.clean_up if item["graph"] == "greedy_decoder")
    assert not greedy["kept"] and greedy["reason"].startswith("the output layer is small")
    assert manifest.latency["text_of_20_tokens_ms"] > 0 and manifest.latency["load_average"]
    assert len(manifest.lineage["student_sha256"]) == 64
    assert {"torch", "transformers", "onnxruntime", "vlkd-hub"} <= manifest.library_versions.keys()
    assert "model.safetensors" not in manifest.files


def test_no_code_and_no_folder_of_the_trainer_travels(traced_before: Path, tiny_student: Path, tmp_path: Path) -> None:
    """auto_map would send a reader to Python that is not there; paths say where somebody works."""
    student = tmp_path / "student"
    shutil.copytree(tiny_student, student)
    (student / "lineage.json").write_text(json.dumps({"recipe": "mini", "teacher": str(tmp_path / "big"), "steps": 3}))
    manifest = export_bundle(student, tmp_path / "bundle", ExportSettings())
    assert manifest.lineage["recipe"] == "mini" and manifest.lineage["steps"] == 3
    assert manifest.lineage["teacher"] == "big"
    for path in (tmp_path / "bundle").rglob("*.json*"):
        assert "auto_map" not in path.read_text() and str(tmp_path) not in path.read_text(), path


def test_golden_pictures_of_a_data_set(traced_before: Path, tiny_student: Path, tmp_path: Path) -> None:
    """They are compared beside the drawn ones and counted in the certificate."""
    split = tmp_path / "data" / "validation"
    split.mkdir(parents=True)
    rows = []
    for number in range(3):
        Image.new("RGB", (40, 30 + number), (80 * number, 9, 9)).save(split / f"{number}.png")
        qa = [{"question": "how many?", "answers": ["one"], "type": "count"}] if number else []
        rows.append(json.dumps({"file_name": f"{number}.png", "captions": ["a red circle"], "qa": qa}))
    (split / "metadata.jsonl").write_text("\n".join(rows))
    output = tmp_path / "bundle"
    manifest = export_bundle(tiny_student, output, ExportSettings(golden=tmp_path / "data", golden_count=2))
    assert manifest.parity["pictures"] == {"drawn": 16, "data": 2}
    texts = {(item["task"], item["num_beams"]): item["texts"] for item in manifest.parity["tokens"]["data"]}
    assert texts == {("caption", 1): 2, ("caption", 3): 2, ("vqa", 1): 1, ("vqa", 3): 1}


def test_a_failed_gate_leaves_no_bundle(
    traced_before: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a half one, not a folder, not a temporary; and a former bundle stays as it was."""
    other = tmp_path / "other"
    shutil.copytree(tiny_student, other)
    model = VlkdForConditionalGeneration.from_pretrained(tiny_student)
    torch.nn.init.normal_(model.image_to_decoder.weight)
    model.save_pretrained(other)
    output = tmp_path / "out" / "bundle"
    with pytest.raises(ParityError, match="image_encoder"):
        export_bundle(other, output, ExportSettings())
    assert list(output.parent.iterdir()) == []
    shutil.copytree(traced_before, output)
    with pytest.raises(ParityError):
        export_bundle(other, output, ExportSettings())
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]
    assert read_manifest(output) == read_manifest(traced_before)


def test_a_former_bundle_is_replaced_and_nothing_else(traced_before: Path, tiny_student: Path, tmp_path: Path) -> None:
    """--output may name the last export; it may not name somebody's folder."""
    output = tmp_path / "bundle"
    output.mkdir()
    export_bundle(tiny_student, output, ExportSettings())
    first = read_manifest(output)
    (output / "left over.txt").write_text("x")
    export_bundle(tiny_student, output, ExportSettings())
    assert not (output / "left over.txt").exists() and read_manifest(output).fingerprint == first.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="is not a bundle"):
        export_bundle(tiny_student, home, ExportSettings())
    assert (home / "thesis.txt").read_text() == "x"


def test_search_vectors_only(traced_before: Path, tiny_student: Path, tmp_path: Path) -> None:
    """--task feature-extraction leaves the decoder out."""
    manifest = export_bundle(tiny_student, tmp_path / "bundle", ExportSettings(task="feature-extraction"))
    assert manifest.generation is None and manifest.tasks == {} and manifest.parity["tokens"] == {"drawn": []}
    assert {path for path in manifest.files if path.startswith("onnx/")} == {
        "onnx/image_encoder.onnx",
        "onnx/text_encoder.onnx",
    }
    assert OnnxStudent.from_pretrained(tmp_path / "bundle").embed_texts(["a"]).shape == (1, 8)


def test_what_cannot_be_exported_is_told(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No student, another model, or a way of writing that the runtime does not have; before any graph is traced."""

    def trace(spec: GraphSpec, directory: Path, opset: int) -> Path:
        raise AssertionError("a graph was traced")

    monkeypatch.setattr(export, "export_graph", trace)
    with pytest.raises(InvalidInputError, match="no config.json"):
        export_bundle(tmp_path / "absent", tmp_path / "bundle", ExportSettings())
    bart = tmp_path / "bart"
    bart.mkdir()
    (bart / "config.json").write_text('{"model_type": "bart"}')
    with pytest.raises(InvalidInputError, match="is a 'bart'"):
        export_bundle(bart, tmp_path / "bundle", ExportSettings())
    cut = tmp_path / "cut"
    shutil.copytree(tiny_student, cut)
    (cut / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cut holds no weights in safetensors"):
        export_bundle(cut, tmp_path / "bundle", ExportSettings())
    odd = tmp_path / "odd"
    shutil.copytree(tiny_student, odd)
    path = odd / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 1.5}))
    with pytest.raises(InvalidInputError, match="repetition_penalty"):
        export_bundle(odd, tmp_path / "bundle", ExportSettings())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 1.0, "eos_token_id": [3, 4]}))
    with pytest.raises(InvalidInputError, match="one eos_token_id"):
        export_bundle(odd, tmp_path / "bundle", ExportSettings())
    assert not (tmp_path / "bundle").exists()
