"""Fixtures of the exporter's tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def traced_before(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exports of the tiny student take the graphs of its bundle instead of tracing them again: seconds saved each.

    Graphs that this bundle does not have are traced.
    """
    from vlkd_export.onnx import export
    from vlkd_export.onnx.graph import GraphSpec

    trace = export.export_graph

    def copy(spec: GraphSpec, directory: Path, opset: int) -> Path:
        former = tiny_bundle / "onnx" / f"{spec.name}.onnx"
        return Path(shutil.copy(former, directory)) if former.exists() else trace(spec, directory, opset)

    monkeypatch.setattr(export, "export_graph", copy)
    return tiny_bundle


@pytest.fixture(scope="session")
def tiny_teacher(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved dual encoder with random weights and the tiny student's tokenizer and pictures."""
    import torch

    from vlkd_hub.models import DualEncoderConfig, DualEncoderModel, DualEncoderProcessor, VlkdProcessor

    student: dict[str, Any] = json.loads((tiny_student / "config.json").read_text())
    torch.manual_seed(1)
    config = DualEncoderConfig(
        vision_config=student["vision_config"], text_config=student["text_encoder"], projection_dim=8
    )
    processor = VlkdProcessor.from_pretrained(tiny_student)
    folder = tmp_path_factory.mktemp("tiny") / "teacher"
    DualEncoderModel(config).eval().save_pretrained(folder)
    DualEncoderProcessor(processor.image_processor, processor.tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imagefolder of drawn pictures with captions and questions."""
    from vlkd_export.golden import drawn_pictures

    folder = tmp_path_factory.mktemp("captioned")
    for split in ("train", "validation", "test"):
        (folder / split).mkdir()
        lines = []
        for number, picture in enumerate(drawn_pictures()[:8]):
            name = f"{number}.png"
            picture.image.convert("RGB").save(folder / split / name)
            captions = [f"a picture of {'red' if number % 2 else 'blue'} square .", "what is there ?"]
            qa = [{"question": picture.question, "answers": ["red"]}]
            lines.append(json.dumps({"file_name": name, "captions": captions, "qa": qa}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder
