"""A bundle travels: its settings name no Python and no folder of the machine that made it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vlkd_export.onnx.bundle_files import write_settings
from vlkd_export.onnx.load import load_reference
from vlkd_hub.models import enable_remote_code


def test_no_folder_and_no_code_of_the_maker(tiny_student: Path, tmp_path: Path) -> None:
    """transformers notes where each part was loaded from; that is the maker's home, not the reader's business."""
    student, bundle = tmp_path / "student", tmp_path / "bundle"
    shutil.copytree(tiny_student, student)
    config = json.loads((student / "config.json").read_text())
    config["text_encoder"]["_name_or_path"] = "/home/somebody/minilm"
    config["auto_map"] = {"AutoConfig": "configuration_vlkd.VlkdConfig"}
    (student / "config.json").write_text(json.dumps(config))
    bundle.mkdir()
    reference = load_reference(student)
    enable_remote_code(reference.model.config)  # as a trainer does before it saves
    write_settings(reference, bundle, dict(reference.processor.tasks))
    written = {path.name: path.read_text() for path in bundle.glob("*.json")}
    assert {"config.json", "tokenizer_config.json", "processor_config.json"} <= written.keys()
    assert not list(bundle.glob("*.py"))
    for name, text in written.items():
        assert "somebody" not in text, name
        assert "auto_map" not in text, name
