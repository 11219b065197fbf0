"""Run by ``make test-optimum`` in an environment with optimum-onnx and transformers 4.57.

Not collected by the default tests (its name does not begin with ``test_``), which run on transformers 5. It is given
a folder with a student and a teacher that transformers 5 saved, and what they answered there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import vlkd_hub.models
from vlkd_export.optimum import register
from vlkd_hub.models import DualEncoderModel, VlkdForConditionalGeneration, VlkdModel

SAVED = Path(os.environ["VLKD_SAVED_BY_5"])
TASK = "zero-shot-image-classification"


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """Inputs, and what the models answered in transformers 5."""
    return dict(np.load(SAVED / "answers.npz"))


def tensors(answers: dict[str, Any], *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(answers[name]) for name in names]


def test_this_is_the_old_transformers() -> None:
    """Otherwise nothing below would say anything."""
    assert transformers.__version__.startswith("4.57.")
    assert {"vlkd", "vlkd_dual_encoder"} <= set(
        transformers.models.auto.configuration_auto.CONFIG_MAPPING._extra_content
    )
    assert vlkd_hub.models.__all__


@torch.no_grad()
def test_a_student_saved_by_5_loads_and_answers_the_same(answers: dict[str, Any]) -> None:
    """Vectors, logits and words; no weight missing, none left over."""
    model, info = VlkdForConditionalGeneration.from_pretrained(SAVED / "student", output_loading_info=True)
    assert info["missing_keys"] == info["unexpected_keys"] == info["mismatched_keys"] == []
    model.eval()
    pixels, ids, mask = tensors(answers, "pixel_values", "input_ids", "attention_mask")
    np.testing.assert_allclose(model.encode_image(pixels)[0], answers["image_embeds"], atol=1e-5)
    np.testing.assert_allclose(model.encode_text(ids, mask)[0], answers["text_embeds"], atol=1e-5)
    logits = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, decoder_input_ids=ids).logits
    np.testing.assert_allclose(logits, answers["logits"], atol=1e-4)
    for beams in (1, 2):
        written = model.generate(
            ids, attention_mask=mask, pixel_values=pixels, max_new_tokens=6, num_beams=beams, do_sample=False
        )
        np.testing.assert_array_equal(written, answers[f"written_{beams}"])


@torch.no_grad()
def test_saved_here_and_loaded_again(tmp_path: Path, answers: dict[str, Any]) -> None:
    """Every weight and every field of the config; the shared table is still shared. 5 reads it in the next step."""
    model = VlkdForConditionalGeneration.from_pretrained(SAVED / "student")
    model.save_pretrained(SAVED / "saved-by-4")
    again = VlkdForConditionalGeneration.from_pretrained(SAVED / "saved-by-4")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    tables = [again.lm_head.weight, again.decoder.embed_tokens.weight, again.get_input_embeddings().weight]
    assert len({table.data_ptr() for table in tables}) == 1
    assert again.config.to_dict()["vision_config"] == model.config.to_dict()["vision_config"]
    dual = DualEncoderModel.from_pretrained(SAVED / "teacher").eval()
    pixels, ids, mask = tensors(answers, "pixel_values", "input_ids", "attention_mask")
    scores = dual(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits_per_image
    np.testing.assert_allclose(scores, answers["teacher_scores"], atol=1e-4)


@pytest.mark.parametrize(("name", "model_class"), [("student", VlkdModel), ("teacher", DualEncoderModel)])
def test_optimum_cli_exports_and_ort_loads(
    name: str, model_class: Any, tmp_path: Path, answers: dict[str, Any]
) -> None:
    """The command as a person types it, with optimum's own check of the graph; then its runtime class."""
    from optimum.onnxruntime import ORTModelForZeroShotImageClassification

    run_cli("--model", str(SAVED / name), "--task", TASK, str(tmp_path))
    exported = ORTModelForZeroShotImageClassification.from_pretrained(tmp_path)
    pixels, ids, mask = tensors(answers, "pixel_values", "input_ids", "attention_mask")
    found = exported(input_ids=ids[:1], attention_mask=mask[:1], pixel_values=pixels)
    with torch.no_grad():
        expected = model_class.from_pretrained(SAVED / name).eval()(
            input_ids=ids[:1], attention_mask=mask[:1], pixel_values=pixels
        )
    for field in ("logits_per_image", "logits_per_text", "image_embeds", "text_embeds"):
        np.testing.assert_allclose(found[field], expected[field], atol=1e-4)


def test_pictures_alone(tmp_path: Path, answers: dict[str, Any]) -> None:
    """The task feature-extraction of a student: V, with the class vector first."""
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    run_cli("--model", str(SAVED / "student"), "--task", "feature-extraction", str(tmp_path))
    (pixels,) = tensors(answers, "pixel_values")
    found = ORTModelForFeatureExtraction.from_pretrained(tmp_path)(pixel_values=pixels).last_hidden_state
    np.testing.assert_allclose(found[:, 0], answers["image_embeds"], atol=1e-4)


def test_registering_twice_does_no_harm() -> None:
    from optimum.exporters.tasks import TasksManager

    register()
    register()
    tasks = TasksManager.get_supported_tasks_for_model_type("vlkd", "onnx", library_name="transformers")
    assert set(tasks) == {TASK, "feature-extraction"}


def run_cli(*words: str) -> None:
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "onnx", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
