"""What the options of ``vlkd export`` change in the bundle: tasks, more graphs, fixed shapes, halves, figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from vlkd_export.onnx.export import export_bundle
from vlkd_export.onnx.half import to_half
from vlkd_export.settings import ExportSettings
from vlkd_hub.errors import DataError, InvalidInputError, MissingDependencyError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent
from vlkd_hub.runtime.sessions import open_session

PICTURES = [Image.new("RGB", (30 + n, 50), (80 * n, 9, 200)) for n in range(3)]


@pytest.mark.parametrize(
    ("task", "tasks"), [("image-to-text", {"caption"}), ("visual-question-answering", {"vqa"})], ids=str
)
def test_a_task_keeps_its_own_prompts(
    task: str, tasks: set[str], traced_before: Path, tiny_student: Path, tmp_path: Path
) -> None:
    """A bundle for answers must not caption: nothing of that was compared."""
    manifest = export_bundle(tiny_student, tmp_path / "bundle", ExportSettings(task=task))
    assert manifest.task == task and set(manifest.tasks) == tasks and manifest.generation is not None
    assert {item["task"] for item in manifest.parity["tokens"]["drawn"]} == tasks
    student = OnnxStudent.from_pretrained(tmp_path / "bundle", threads=1)
    assert set(student.text_processor.tasks) == tasks
    other = student.answer if task == "image-to-text" else lambda images, questions: student.caption(images)
    with pytest.raises(InvalidInputError, match="has no task"):
        other(PICTURES[:1], ["what?"])


def test_more_graphs(traced_before: Path, tiny_student: Path, tmp_path: Path) -> None:
    """Scores in one graph and uint8 pictures in another; both are in the gate and in the certificate."""
    settings = ExportSettings(monolith=True, preprocessing_in_graph=True)
    manifest = export_bundle(tiny_student, tmp_path / "bundle", settings)
    assert {"model", "picture_encoder"} < {item["graph"] for item in manifest.parity["tensors"]}
    student, in_torch = OnnxStudent.from_pretrained(tmp_path / "bundle"), TorchStudent.from_pretrained(tiny_student)
    texts = ["a red circle", "two"]
    scale = float(in_torch.model.vlkd.logit_scale.detach().exp())
    expected = scale * in_torch.embed_images(PICTURES) @ in_torch.embed_texts(texts).T
    np.testing.assert_allclose(student.score(PICTURES, texts), expected, atol=1e-4)
    assert student.score([], texts).shape == (0, 2)
    pixels = np.stack([np.asarray(PICTURES[0])] * 2)
    cosines = student.embed_pixels(pixels) @ in_torch.embed_images(PICTURES[:1])[0]
    assert cosines.min() >= 0.9999
    with pytest.raises(InvalidInputError, match="uint8 pixels"):
        student.embed_pixels(pixels.astype(np.float32))
    certificate = json.loads((tmp_path / "bundle" / "golden" / "expected.json").read_text())
    assert set(certificate["opsets"]) > {"model", "picture_encoder"} and len(certificate["scores"]) == 16
    plain = OnnxStudent.from_pretrained(traced_before, threads=1)
    for call in (lambda: plain.score(PICTURES, texts), lambda: plain.embed_pixels(pixels)):
        with pytest.raises(InvalidInputError, match="Export the student again with --"):
            call()


def test_fixed_shapes(tiny_student: Path, tmp_path: Path) -> None:
    """Encoders for one picture and one padded text, for devices that compile shapes; the runtime keeps to them."""
    settings = ExportSettings(dynamic_axes=False, sequence_length=20, task="image-to-text")
    manifest = export_bundle(tiny_student, tmp_path / "bundle", settings)
    assert manifest.fixed_shapes == {"batch": 1, "length": 20}
    shapes = {}
    for name in ("image_encoder", "text_encoder"):
        graph = onnx.load(tmp_path / "bundle" / "onnx" / f"{name}.onnx").graph
        shapes |= {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    assert shapes == {"pixel_values": [1, 3, 32, 32], "input_ids": [1, 20], "attention_mask": [1, 20]}
    student, in_torch = OnnxStudent.from_pretrained(tmp_path / "bundle"), TorchStudent.from_pretrained(tiny_student)
    np.testing.assert_allclose(student.embed_images(PICTURES), in_torch.embed_images(PICTURES), atol=1e-5)
    texts = ["a red circle", "two"]
    np.testing.assert_allclose(student.embed_texts(texts), in_torch.embed_texts(texts), atol=1e-5)
    assert student.caption(PICTURES, num_beams=2) == in_torch.caption(PICTURES, num_beams=2)


def test_halves(tiny_bundle: Path, tmp_path: Path) -> None:
    """Half the bytes of weights, float32 at the door, nearly the same numbers."""
    path = tmp_path / "image_encoder.onnx"
    path.write_bytes((tiny_bundle / "onnx" / path.name).read_bytes())
    pixels = np.random.RandomState(0).rand(2, 3, 32, 32).astype(np.float32)
    before = open_session(path).run(None, {"pixel_values": pixels})
    to_half(path)
    session = open_session(path)
    assert {item.type for item in [*session.get_inputs(), *session.get_outputs()]} == {"tensor(float)"}
    weights = [item for item in onnx.load(path).graph.initializer if np.prod(item.dims) > 8]
    assert onnx.TensorProto.FLOAT not in {item.data_type for item in weights}
    for one, other in zip(before, session.run(None, {"pixel_values": pixels}), strict=True):
        assert 0 < np.abs(one - other).max() < 1e-2


def test_the_scores_of_the_model_travel(traced_before: Path, tiny_student: Path, tmp_path: Path) -> None:
    """The figures, not the examples nor the folders of the machine that measured them."""
    report = {"model": "/home/x/m", "data": "d", "parameters": 7, "splits": {"test": {"cider": 1.5, "examples": [1]}}}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(report))
    settings = ExportSettings(task="feature-extraction", evaluation=path)
    manifest = export_bundle(tiny_student, tmp_path / "bundle", settings)
    assert manifest.evaluation == {"parameters": 7, "splits": {"test": {"cider": 1.5}}}
    for text in ("{}", "[]", '{"splits": 3}', "x"):
        path.write_text(text)
        with pytest.raises(DataError, match="no report of vlkd evaluate"):
            export_bundle(tiny_student, tmp_path / "other", settings)


def test_a_device_that_is_not_there_is_told(tiny_student: Path, tmp_path: Path) -> None:
    """At once, not after the tracing."""
    with pytest.raises(MissingDependencyError, match="cannot use the device 'cuda:99'"):
        export_bundle(tiny_student, tmp_path / "bundle", ExportSettings(device="cuda:99"))
