"""Teachers and CLIPs leave as search vectors and scores, without a decoder, a mask token or prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlkd_export.onnx.export import export_bundle
from vlkd_export.settings import ExportSettings
from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent

TEXTS = ["a red circle", "two blue squares.", "x"]
PICTURES = [Image.new("RGB", (20 + 9 * n, 50), (80 * n, 9, 200)) for n in range(3)]


def equal(bundle: Path, model: Path) -> None:
    """Vectors of both sides, and scores, as torch's."""
    in_onnx, in_torch = OnnxStudent.from_pretrained(bundle, threads=1), TorchStudent.from_pretrained(model)
    images, texts = in_torch.embed_images(PICTURES), in_torch.embed_texts(TEXTS)
    np.testing.assert_allclose(in_onnx.embed_images(PICTURES), images, atol=1e-5)
    np.testing.assert_allclose(in_onnx.embed_texts(TEXTS), texts, atol=1e-5)
    scale = float(in_torch.model.logit_scale.detach().exp())
    np.testing.assert_allclose(in_onnx.score(PICTURES, TEXTS), scale * images @ texts.T, atol=1e-3)
    with pytest.raises(InvalidInputError, match="only embeds"):
        in_onnx.caption(PICTURES[:1])


def test_a_teacher(tiny_teacher: Path, tmp_path: Path) -> None:
    """Two towers and the graph that scores; the task is the one that such a model has."""
    settings = ExportSettings(task="zero-shot-image-classification")
    manifest = export_bundle(tiny_teacher, tmp_path / "bundle", settings)
    assert (manifest.model_type, manifest.task) == ("vlkd_dual_encoder", "zero-shot-image-classification")
    assert manifest.generation is None and manifest.tasks == {} and manifest.embedding_dim == 8
    graphs = {path for path in read_manifest(tmp_path / "bundle").files if path.startswith("onnx/")}
    assert graphs == {"onnx/image_encoder.onnx", "onnx/text_encoder.onnx", "onnx/model.onnx"}
    assert {item["graph"] for item in manifest.parity["tensors"]} == {
        "image_encoder",
        "text_encoder",
        "search",
        "model",
    }
    equal(tmp_path / "bundle", tiny_teacher)
    from vlkd_hub.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["verify", str(tmp_path / "bundle"), "--model", str(tiny_teacher)])
    assert not ended.value.code


def test_a_clip(tmp_path: Path) -> None:
    """transformers' own class, with its tokenizer that has no mask token."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = [chr(number) for number in range(97, 123)] + [",", "."]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    narrow = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = narrow | {"vocab_size": len(words), "max_position_embeddings": 77, "eos_token_id": len(words) - 1}
    torch.manual_seed(2)
    config = CLIPConfig(
        text_config=text | {"bos_token_id": len(words) - 2, "pad_token_id": len(words) - 1},
        vision_config=narrow | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    model = tmp_path / "clip"
    CLIPModel(config).eval().save_pretrained(model)
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessorPil(size=size, crop_size=size), tokenizer).save_pretrained(model)
    manifest = export_bundle(model, tmp_path / "bundle", ExportSettings(monolith=True))
    assert (manifest.model_type, manifest.task) == ("clip", "feature-extraction")
    equal(tmp_path / "bundle", model)


def test_what_it_cannot_do_is_told(tiny_teacher: Path, tmp_path: Path) -> None:
    """Before anything is traced."""
    with pytest.raises(InvalidInputError, match="DualEncoderModel cannot do 'image-to-text'.*feature-extraction"):
        export_bundle(tiny_teacher, tmp_path / "bundle", ExportSettings(task="image-to-text"))
    with pytest.raises(InvalidInputError, match="pictures of one size only"):
        export_bundle(tiny_teacher, tmp_path / "bundle", ExportSettings(dynamic_image_size=True))
    assert not (tmp_path / "bundle").exists()
