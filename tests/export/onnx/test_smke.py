"""S-SMKE leaves as a dual encoder does and, if asked to, with the graphs that match words with patches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from vlkd_export.certificate import CERTIFICATE_NAME, check_certificate, read_certificate
from vlkd_export.golden import drawn_pictures
from vlkd_export.onnx.export import export_bundle
from vlkd_export.onnx.load import load_reference
from vlkd_export.parity import check_tensors
from vlkd_export.settings import ExportSettings
from vlkd_hub.bundle import MatchingSpec, read_manifest, write_manifest
from vlkd_hub.errors import BundleError, InvalidInputError, ParityError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent

TEXTS = ["Two red circles, a zebra.", "a dog on the square", "x"]
PICTURES = [Image.effect_noise((30 + 9 * n, 50), 80).convert("RGB") for n in range(3)]
MATCHING = ("image_tokens", "text_tokens", "matching")


def equal(bundle: Path, model: Path, attention: bool = True) -> None:
    """Vectors and every word's patches as torch's."""
    in_onnx, in_torch = OnnxStudent.from_pretrained(bundle, threads=1), TorchStudent.from_pretrained(model)
    assert in_onnx.matches_words and in_torch.matches_words
    np.testing.assert_allclose(in_onnx.embed_images(PICTURES), in_torch.embed_images(PICTURES), atol=1e-5)
    np.testing.assert_allclose(in_onnx.embed_texts(TEXTS), in_torch.embed_texts(TEXTS), atol=1e-5)
    for picture, text in zip(PICTURES, TEXTS, strict=True):
        found, expected = in_onnx.match_words(picture, text), in_torch.match_words(picture, text)
        assert found.region == expected.region and len(found.words) == len(expected.words) > 0
        for one, other in zip(found.words, expected.words, strict=True):
            assert (one.text, one.start, one.end, one.top) == (other.text, other.start, other.end, other.top)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
            assert (one.attention is not None) is attention
            if one.attention is not None and other.attention is not None:
                np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)


def test_vectors_words_and_patches_are_torchs(smke_bundle: Path, smke_student: Path) -> None:
    """The gate's report names each graph; the certificate holds sketches of what words are compared by."""
    manifest = read_manifest(smke_bundle)
    assert (manifest.model_type, manifest.task, manifest.embedding_dim) == ("vlkd_smke", "feature-extraction", 16)
    assert manifest.matching == MatchingSpec(rows=4, columns=4, width=16, attention=True)
    graphs = ("image_encoder", "text_encoder", "search", *MATCHING)
    assert tuple(item["graph"] for item in manifest.parity["tensors"]) == graphs
    sketched = json.loads((smke_bundle / CERTIFICATE_NAME).read_text())["sketches"]
    assert set(sketched) == {"image_tokens", "image_attention", "text_tokens"}
    equal(smke_bundle, smke_student)


def test_verify_asks_these_graphs_too(smke_bundle: Path, smke_student: Path, capsys: Any) -> None:
    from vlkd_hub.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["verify", str(smke_bundle), "--model", str(smke_student)])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "6 graphs" in said and "22 tensors inside the graphs" in said  # 2 x 8 pictures, 6 texts


def changed(bundle: Path, folder: Path, graph: str) -> Path:
    """A copy with one weight of a graph doubled, and a list of hashes written anew."""
    shutil.copytree(bundle, folder)
    path = folder / "onnx" / f"{graph}.onnx"
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda item: numpy_helper.to_array(item).size)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    onnx.save_model(model, path)
    write_manifest(folder, read_manifest(folder, verify=False))
    return folder


@pytest.mark.parametrize("graph", ["image_tokens", "text_tokens"])
def test_a_changed_graph_is_found(graph: str, smke_bundle: Path, smke_student: Path, tmp_path: Path) -> None:
    """Against torch, and without it against the certificate."""
    student = OnnxStudent.from_pretrained(changed(smke_bundle, tmp_path / "bundle", graph), threads=1)
    with pytest.raises(ParityError, match=f"sketches of {graph}"):
        check_certificate(student, read_certificate(tmp_path / "bundle"))
    with pytest.raises(ParityError, match=f"graph {graph} differs"):
        check_tensors(load_reference(smke_student), student, drawn_pictures()[:4], 1e-4)


def test_a_bundle_that_lost_its_graphs_is_refused(smke_bundle: Path, tmp_path: Path) -> None:
    """The manifest promises them."""
    folder = shutil.copytree(smke_bundle, tmp_path / "bundle")
    (folder / "onnx" / "text_tokens.onnx").unlink()
    with pytest.raises(BundleError, match="lacks onnx/text_tokens.onnx"):
        OnnxStudent.from_pretrained(folder)


def test_only_students_made_for_it(tiny_teacher: Path, smke_student: Path, tmp_path: Path) -> None:
    """Told before anything is traced."""
    with pytest.raises(InvalidInputError, match="DualEncoderModel was not made to compare words.*--match-words out"):
        export_bundle(tiny_teacher, tmp_path / "bundle", ExportSettings(match_words=True))
    with pytest.raises(InvalidInputError, match="SmkeModel takes pictures of one size only"):
        export_bundle(smke_student, tmp_path / "bundle", ExportSettings(dynamic_image_size=True))
    with pytest.raises(InvalidInputError, match="only an S-SMKE student"):
        TorchStudent.from_pretrained(tiny_teacher).match_words(PICTURES[0], "x")
    assert not TorchStudent.from_pretrained(tiny_teacher).matches_words
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_fewer_bits_leave_them_out(smke_bundle: Path, captioned: Path, tmp_path: Path) -> None:
    """They hold the float32 weights of graphs that are now others; the certificate is the new bundle's own."""
    from vlkd_export.quantize.bundle import quantize_bundle
    from vlkd_export.quantize.settings import QuantizeSettings

    settings = QuantizeSettings(precision="int8", max_drop={"r@10": 100.0}, data=str(captioned), runs=1, max_trials=2)
    quantize_bundle(smke_bundle, tmp_path / "small", settings)
    small = OnnxStudent.from_pretrained(tmp_path / "small", threads=1)
    assert small.manifest.precision == "int8" and small.manifest.matching is None
    assert set(small.sessions) == {"image_encoder", "text_encoder"} and not small.matches_words
    assert check_certificate(small, read_certificate(tmp_path / "small"))["pictures"] == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "settings", "attention"),
    [
        ({"shared": "mlp"}, {"task": "zero-shot-image-classification"}, False),
        ({"backbone": "cnn", "token_type": "before", "text_summary": "mean"}, {}, True),
        ({"backbone": "cnn", "image": {"num_head_layers": 1, "num_attention_heads": 2}}, {"optimize": "O2"}, True),
        ({"cmli_size": 6, "token_type": "scaled", "image_summary": "mean"}, {"dynamic_axes": False}, True),
    ],
)
def test_every_kind_of_student(
    changes: dict[str, Any],
    settings: dict[str, Any],
    attention: bool,
    make_smke_student: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Other backbones, a shared MLP (no attention, and the manifest says so), target-CMLI's space, fixed shapes."""
    model = make_smke_student(tmp_path / "student", **changes)
    manifest = export_bundle(model, tmp_path / "bundle", ExportSettings(match_words=True, **settings))
    assert manifest.matching is not None and manifest.matching.attention is attention
    assert manifest.matching.width == changes.get("cmli_size", 16)
    equal(tmp_path / "bundle", model, attention)
    if "task" in settings:  # the graph that scores uses the temperature of the layer that embeds
        student = TorchStudent.from_pretrained(model)
        scale = float(student.model.logit_scale.detach()[-1].exp())
        expected = scale * student.embed_images(PICTURES) @ student.embed_texts(TEXTS).T
        found = OnnxStudent.from_pretrained(tmp_path / "bundle").score(PICTURES, TEXTS)
        np.testing.assert_allclose(found, expected, atol=1e-3)
