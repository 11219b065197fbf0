"""Code beside the weights runs when the caller of transformers asks for it by name, and never because a file says so.

Planted: ``auto_map`` for every Auto class, ``trust_remote_code`` and their like, in every object of every config, the
nested ones too (transformers CVE-2026-5241 was a nested one).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, dynamic_module_utils

import vlkd_hub.models  # noqa: F401  tells the Auto classes about the students
from vlkd_hub.bundle import read_manifest, write_manifest
from vlkd_hub.errors import BundleError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent

from .canary import canary_code

AUTO_MAP = {
    "AutoConfig": "canary.CanaryConfig",
    "AutoModel": "canary.CanaryModel",
    "AutoModelForImageTextToText": "canary.CanaryModel",
    "AutoModelForZeroShotImageClassification": "canary.CanaryModel",
    "AutoModelForCausalLM": "canary.CanaryModel",
    "AutoTokenizer": ["canary.CanaryTokenizer", "canary.CanaryTokenizerFast"],
    "AutoProcessor": "canary.CanaryProcessor",
    "AutoImageProcessor": "canary.CanaryImageProcessor",
    "AutoFeatureExtractor": "canary.CanaryProcessor",
    "AutoVideoProcessor": "canary.CanaryProcessor",
}
PLANTED = {"auto_map": AUTO_MAP, "trust_remote_code": True, "custom_generate": ".", "custom_pipelines": {}}


def plant(value: Any, extra: dict[str, Any]) -> Any:
    """Put ``extra`` into every object of a config, however deep; not into a size, which would be an error by itself."""
    if isinstance(value, dict):
        sizes = {key: value[key] for key in ("size", "crop_size") if key in value}
        return {key: plant(item, extra) for key, item in value.items()} | extra | sizes
    return [plant(item, extra) for item in value] if isinstance(value, list) else value


def plant_in_files(folder: Path, extra: dict[str, Any], names: tuple[str, ...] = ()) -> None:
    for path in folder.glob("*_config.json" if not names else "*.json"):
        if not names or path.name in names:
            path.write_text(json.dumps(plant(json.loads(path.read_text()), extra)))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def copy(tiny_student: Path, tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A student with code beside it, and a place of its own for code that transformers fetches."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "student"
    shutil.copytree(tiny_student, folder)
    (folder / "canary.py").write_text(canary_code(ran))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(canary_code(ran))
    return folder


def test_the_payload_would_run(copy: Path, ran: Path) -> None:
    """Asked for by name, the planted file is imported; else every test below would pass on a dud."""
    edit(copy / "config.json", lambda config: config.update(model_type="canary", auto_map=AUTO_MAP))
    with pytest.raises(Exception, match="CanaryConfig|from_pretrained|register"):
        AutoConfig.from_pretrained(copy, trust_remote_code=True)
    assert ran.exists()


def test_planted_everywhere_the_student_still_answers(copy: Path, ran: Path) -> None:
    """Every object of every config says yes; our runner loads its own classes and captions."""
    plant_in_files(copy, PLANTED, ("config.json", "processor_config.json", "tokenizer_config.json"))
    plant_in_files(copy, PLANTED, ("preprocessor_config.json", "generation_config.json"))
    student = TorchStudent.from_pretrained(copy)
    assert len(student.caption([Image.new("RGB", (40, 40))], max_new_tokens=2)) == 1
    assert type(student.model).__module__ == "vlkd_hub.models.vlkd.modeling_vlkd"
    assert type(student.processor).__module__ == "vlkd_hub.models.vlkd.processing_vlkd"
    assert not ran.exists()


def test_planted_everywhere_an_smke_student_still_answers(
    smke_student: Path, tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for S-SMKE, whose nested configs are an image encoder's dict and any text encoder's."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = shutil.copytree(smke_student, tmp_path / "student")
    (folder / "canary.py").write_text(canary_code(ran))
    plant_in_files(folder, PLANTED, ("config.json", "processor_config.json", "tokenizer_config.json"))
    plant_in_files(folder, PLANTED, ("preprocessor_config.json",))
    student = TorchStudent.from_pretrained(folder)
    assert len(student.match_words(Image.new("RGB", (40, 40)), "a red circle").words) == 3
    assert type(student.model).__module__ == "vlkd_hub.models.smke.modeling_smke"
    assert type(student.processor).__module__ == "vlkd_hub.models.smke.processing_smke"
    assert not ran.exists()


@pytest.mark.parametrize("own_generate", ["folder", "repository"])
def test_a_task_cannot_bring_its_own_generate(own_generate: str, copy: Path, ran: Path) -> None:
    """A task's settings go to ``generate``, which would import the Python that ``custom_generate`` names."""
    where = str(copy) if own_generate == "folder" else "evil/repo"
    planted = {"custom_generate": where, "trust_remote_code": True, "assistant_model": "evil/repo"}
    edit(copy / "processor_config.json", lambda config: config["tasks"]["caption"].update(planted))
    student = TorchStudent.from_pretrained(copy)
    assert len(student.caption([Image.new("RGB", (40, 40))], max_new_tokens=2)) == 1
    assert not ran.exists()


def test_transformers_with_this_package_installed(copy: Path, ran: Path) -> None:
    """The caller says nothing about trust: the registered classes come first."""
    plant_in_files(copy, PLANTED, ("config.json", "processor_config.json", "tokenizer_config.json"))
    AutoModelForImageTextToText.from_pretrained(copy)
    AutoProcessor.from_pretrained(copy)
    assert not ran.exists()


def unknown_backbone(config: dict[str, Any]) -> None:
    config["vision_config"]["backbone_config"] |= {"model_type": "canary", **PLANTED}


def unknown_text_encoder(config: dict[str, Any]) -> None:
    config["text_encoder"] |= {"model_type": "canary", **PLANTED}


def unknown_decoder(config: dict[str, Any]) -> None:
    config["decoder"] |= {"model_type": "canary", **PLANTED}


def of_another_repository(config: dict[str, Any]) -> None:
    there = {key: f"evil/repo--{place}" for key, place in AUTO_MAP.items() if isinstance(place, str)}
    config["vision_config"] |= {"auto_map": there}
    config["text_encoder"] |= {"auto_map": there, "model_type": "canary"}


def unknown_model(config: dict[str, Any]) -> None:
    config |= {"model_type": "canary", **PLANTED}


@pytest.mark.parametrize(
    "change", [unknown_backbone, unknown_text_encoder, unknown_decoder, of_another_repository, unknown_model]
)
def test_a_class_that_only_the_planted_code_has(
    change: Callable[[dict[str, Any]], Any], copy: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing else to load, and still nobody is asked and nothing runs."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody may be asked whether to run code"))
    edit(copy / "config.json", change)
    try:
        TorchStudent.from_pretrained(copy)
    except Exception as error:
        assert not isinstance(error, AssertionError), error
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "CanaryTokenizer", **PLANTED}),
        ("processor_config.json", {"processor_class": "CanaryProcessor", **PLANTED}),
        ("preprocessor_config.json", {"image_processor_type": "CanaryImageProcessor", **PLANTED}),
    ],
)
def test_a_processor_that_only_the_planted_code_has(
    name: str, change: dict[str, Any], copy: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody may be asked whether to run code"))
    if not (copy / name).exists():
        (copy / name).write_text("{}")
    edit(copy / name, lambda config: config.update(change))
    try:
        TorchStudent.from_pretrained(copy)
    except Exception as error:
        assert not isinstance(error, AssertionError), error
    assert not ran.exists()


def test_a_bundle_has_no_code_to_turn_on(tiny_bundle: Path, tmp_path: Path, ran: Path) -> None:
    """Its reader knows no such key; the folder is signed anew, as somebody hostile would."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / "canary.py").write_text(canary_code(ran))
    plant_in_files(folder, PLANTED, ("config.json", "tokenizer_config.json", "preprocessor_config.json"))
    write_manifest(folder, read_manifest(folder, verify=False))
    student = OnnxStudent.from_pretrained(folder)
    assert len(student.caption([Image.new("RGB", (40, 40))], max_new_tokens=2)) == 1
    plant_in_files(folder, PLANTED, ("processor_config.json",))  # among its tasks too, where it is no task
    write_manifest(folder, read_manifest(folder, verify=False))
    with pytest.raises(BundleError, match="a task is not a prompt"):
        OnnxStudent.from_pretrained(folder)
    assert not ran.exists()
