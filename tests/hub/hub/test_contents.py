"""What goes up is the student or the bundle, whole, and nothing that a run left beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub.errors import BundleError, InvalidInputError, WeightsError
from vlkd_hub.hub.contents import bundle_contents, stale, student_contents, without_folders

from .small import BUNDLE_FILES, CODE, write_bundle, write_student


def test_a_student_without_what_a_run_left(tmp_path: Path) -> None:
    """Optimizer state is a pickle, checkpoints are large, and a log is nobody's business."""
    found = student_contents(write_student(tmp_path / "student"))
    settings = {"config.json", "processor_config.json", "tokenizer.json", "lineage.json"}
    assert set(found) == {"model.safetensors", *CODE, *settings}


def test_code_goes_as_it_is(tmp_path: Path) -> None:
    """Byte for byte, imports of imports too; a file that nothing names stays."""
    folder = write_student(tmp_path / "student")
    found = student_contents(folder)
    for name in CODE:
        assert found[name] == folder / name


def test_folders_of_this_machine_stay_at_home(tmp_path: Path) -> None:
    """A path tells the name of a person and of a customer."""
    found = student_contents(write_student(tmp_path / "student", vision={"name_or_path": "C:\\me\\clip", "depth": 2}))
    assert json.loads(found["config.json"])["text_encoder"] == {}
    assert json.loads(found["config.json"])["vision"] == {"depth": 2}
    assert json.loads(found["lineage.json"]) == {"teacher": "clip", "recipe": "vlkd.yaml"}


def test_names_on_the_hub_are_kept() -> None:
    told = {"_name_or_path": "openai/clip", "list": [{"_name_or_path": "/x"}], "data": "/data/scenes"}
    assert without_folders(told, everywhere=False) == {
        "_name_or_path": "openai/clip",
        "list": [{}],
        "data": "/data/scenes",
    }
    assert without_folders(told, everywhere=True)["data"] == "scenes"


def test_code_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Nobody could load the repository."""
    folder = write_student(tmp_path / "student")
    (folder / "outputs_vlkd.py").unlink()
    with pytest.raises(InvalidInputError, match="its code is in outputs_vlkd.py, which is not there"):
        student_contents(folder)


@pytest.mark.parametrize("place", ["../evil.Model", "other/repo--modeling_vlkd.VlkdModel"])
def test_code_of_elsewhere_is_an_error(tmp_path: Path, place: str) -> None:
    folder = write_student(tmp_path / "student", auto_map={"AutoModel": place})
    with pytest.raises(InvalidInputError, match="which is not there"):
        student_contents(folder)


def test_neither_student_nor_bundle(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no config.json .a student. and no manifest.json"):
        student_contents(tmp_path)


def test_weights_are_checked(tmp_path: Path) -> None:
    folder = write_student(tmp_path / "student")
    (folder / "model.safetensors").write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match="model.safetensors"):
        student_contents(folder)


def test_a_bundle_is_what_its_manifest_lists(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "notes.txt").write_text("mine")
    found, manifest = bundle_contents(folder, "bundle")
    assert set(found) == {f"bundle/{name}" for name in (*BUNDLE_FILES, "manifest.json")}
    assert manifest.opset == 20


def test_a_changed_bundle_is_not_sent(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "onnx/decoder.onnx").write_text("other")
    with pytest.raises(BundleError, match="onnx/decoder.onnx is not the file that was exported"):
        bundle_contents(folder)


def test_stale_files_are_ours_alone() -> None:
    """What the owner put there himself is not ours to delete."""
    present = [".gitattributes", "README.md", "pictures/a.png", "train.py", "data.csv", "config.json"]
    old = ["onnx/old.onnx", "bundle/manifest.json", "model-00001-of-00002.safetensors", "modeling_vlkd.py", "vocab.txt"]
    assert stale([*present, *old], {"config.json": b"{}"}) == old
