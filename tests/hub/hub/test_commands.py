"""``vlkd push`` and ``vlkd pull`` as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from vlkd_hub.cli import main

from .hub_server import HubServer
from .small import write_bundle, write_student


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


def test_there_and_back(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student, bundle = write_student(tmp_path / "student"), write_bundle(tmp_path / "bundle")
    (tmp_path / "card.yaml").write_text("license: mit\n")
    options = ["--bundle", bundle, "--private", "-m", "first", "--card-data", tmp_path / "card.yaml"]
    assert run("push", student, "me/shapes", *options) == 0
    assert "21 files in http://127.0.0.1" in capsys.readouterr().out
    assert hub.store.repos["me/shapes"].private
    assert run("push", student, "me/shapes") == 0
    assert "deleted, from an earlier push: bundle/config.json" in capsys.readouterr().out
    assert run("push", bundle, "me/shapes", "--revision", "onnx") == 0
    assert run("pull", "me/shapes@onnx", tmp_path / "copy") == 0
    assert "9 files as exported" in capsys.readouterr().out
    assert (tmp_path / "copy" / "onnx" / "decoder.onnx").read_text() == "content of onnx/decoder.onnx"


def test_a_kept_card_is_told(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = write_student(tmp_path / "student")
    assert run("push", student, "me/shapes") == 0
    HfApi().create_commit("me/shapes", [CommitOperationAdd("README.md", b"# Mine")], commit_message="mine")
    assert run("push", student, "me/shapes") == 0
    assert "README.md was written by hand" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("push", "nothing", "me/shapes"), "holds no config.json"),
        (("push", "nothing", "shapes"), "is no name of a repository"),
        (("pull", "me/none", "copy"), "me/none cannot be fetched"),
        (("pull", "none", "copy"), "is no name of a repository"),
    ],
)
def test_mistakes_are_one_line(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*args) == 2
    assert message in " ".join(capsys.readouterr().err.split())
