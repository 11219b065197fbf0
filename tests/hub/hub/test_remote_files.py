"""The Python files in a repository are those of this package, byte for byte, all the way there and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.hub.folders import student_folder
from vlkd_hub.hub.push import push
from vlkd_hub.inference import TorchStudent
from vlkd_training.saving import save_model

from .hub_server import HubServer


@pytest.fixture(scope="module")
def saved(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student as the trainer saves it: with its code."""
    student = TorchStudent.from_pretrained(tiny_student)
    folder = tmp_path_factory.mktemp("saved") / "student"
    save_model(student.model, student.processor, folder, {"teacher": "drawn at random"})
    return folder


def test_code_is_copied_byte_for_byte(hub: HubServer, saved: Path, repo_root: Path) -> None:
    """From the package to the folder, to the repository, and to the folder of whoever fetched it."""
    push(saved, "me/tiny")
    package = {path.name: path.read_bytes() for path in (repo_root / "vlkd_hub" / "models" / "vlkd").glob("*.py")}
    for name in ("__init__.py", "classification_vlkd.py"):  # the second goes with a classifier alone
        del package[name]
    folders = [saved, student_folder("me/tiny")]
    for folder in folders:
        assert {path.name: path.read_bytes() for path in folder.glob("*.py")} == package
    served = hub.store.files("me/tiny")
    assert {name: content for name, content in served.items() if name.endswith(".py")} == package


def test_a_repository_opens_in_torch(hub: HubServer, saved: Path) -> None:
    from PIL import Image

    push(saved, "me/tiny", revision="v1")
    picture = Image.new("RGB", (40, 30), "red")
    here, there = TorchStudent.from_pretrained(saved), TorchStudent.from_pretrained("me/tiny", revision="v1")
    assert there.caption([picture]) == here.caption([picture])
    assert (there.embed_images([picture]) == here.embed_images([picture])).all()


def test_a_repository_opens_in_onnx(hub: HubServer, saved: Path, tiny_bundle: Path) -> None:
    from PIL import Image

    from vlkd_hub.runtime import OnnxStudent

    push(saved, "me/tiny", bundle=tiny_bundle)
    picture = Image.new("RGB", (40, 30), "red")
    here, there = OnnxStudent.from_pretrained(tiny_bundle), OnnxStudent.from_pretrained("me/tiny@main")
    assert there.caption([picture]) == here.caption([picture])
    assert there.manifest == here.manifest
