"""An S-SMKE student travels with its code: a process that has never heard of this package gets the same answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor

from vlkd_hub.hub.card import model_card
from vlkd_hub.hub.facts import CardFacts
from vlkd_hub.hub.names import RepoName
from vlkd_hub.inference import TorchStudent
from vlkd_hub.models import SmkeModel, SmkeProcessor
from vlkd_training.saving import save_model


@pytest.fixture(scope="module")
def saved(smke_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student as the trainer saves it: with its code."""
    student = TorchStudent.from_pretrained(smke_student)
    folder = tmp_path_factory.mktemp("smke") / "saved"
    save_model(student.model, student.processor, folder, {"teacher": "drawn at random"})
    return folder


def test_the_auto_classes_of_this_process(smke_student: Path) -> None:
    """Registered: no code beside the weights is needed, and none is run."""
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        assert type(auto.from_pretrained(smke_student, trust_remote_code=False)) is SmkeModel
    assert type(AutoProcessor.from_pretrained(smke_student, trust_remote_code=False)) is SmkeProcessor


def test_the_code_is_this_packages(saved: Path, repo_root: Path) -> None:
    """Every file that the model's modules import lies there, byte for byte."""
    package = repo_root / "vlkd_hub" / "models" / "smke"
    files = {path.name: path.read_bytes() for path in saved.glob("*.py")}
    assert {"modeling_smke.py", "configuration_smke.py", "processing_smke.py", "shared_encoder.py"} <= files.keys()
    assert all((package / name).read_bytes() == content for name, content in files.items())


def test_a_process_that_never_heard_of_this_package(saved: Path, tmp_path: Path) -> None:
    """Models by both heads, config and processor from the folder alone; vectors, patches and attention as here."""
    picture = tmp_path / "photo.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)).save(picture)
    script = Path(__file__).with_name("never_heard.py")
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(saved), str(picture)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["classes"] == ["SmkeProcessor", "SmkeConfig"]
    assert all(name.startswith("transformers_modules.") for name in found["modules"])
    student, here = TorchStudent.from_pretrained(saved), Image.open(picture).convert("RGB")
    images, texts = student.embed_images([here]), student.embed_texts(["a red circle", "two dogs"])
    for auto in ("AutoModel", "AutoModelForZeroShotImageClassification"):
        np.testing.assert_allclose(found[auto], [images[0], texts[0]], atol=1e-5)
    scale = float(student.model.logit_scale.detach()[-1].exp())
    np.testing.assert_allclose(found["logits"], scale * (images @ texts.T)[0], atol=1e-3)
    pixels = student._pixels([here])
    np.testing.assert_allclose(found["tokens"], student.model.get_image_tokens(pixels)[0].detach(), atol=1e-5)
    np.testing.assert_allclose(found["attention"], student.model.get_image_attention(pixels)[0].detach(), atol=1e-5)


def test_the_card_names_the_kind() -> None:
    card = str(model_card(RepoName("me/smke"), CardFacts(model_type="vlkd_smke", has_student=True)))
    assert "An S-SMKE student, as safetensors for transformers" in card
    assert "pipeline_tag: zero-shot-image-classification" in card and "AutoModel.from_pretrained" in card
