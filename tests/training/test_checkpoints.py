"""Which checkpoint a resumed run picks: the last that is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_training.checkpoints import MANIFEST, STAGING, commit, last_checkpoint, remove_checkpoints


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Checkpoints 2 and 10, both whole."""
    for step in (2, 10):
        folder = tmp_path / STAGING / f"checkpoint-{step}"
        (folder / "inner").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "inner" / "state").write_bytes(b"state")
        commit(folder, tmp_path / folder.name)
    return tmp_path


def test_the_highest_step_wins(output: Path) -> None:
    """By number, not by name: 10 is after 2. Other folders and files do not count."""
    (output / "checkpoint-99").write_text("a file")
    (output / "checkpoint-final").mkdir()
    assert last_checkpoint(output) == output / "checkpoint-10"
    files = json.loads((output / "checkpoint-10" / MANIFEST).read_text())["files"]
    assert files == {"inner/state": 5, "model.safetensors": 7}


@pytest.mark.parametrize("damage", ["shorter", "missing", "unlisted", "unreadable"])
def test_what_is_not_whole_is_passed_over(output: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    last = output / "checkpoint-10"
    if damage == "shorter":
        (last / "model.safetensors").write_bytes(b"wei")
    if damage == "missing":
        (last / "inner" / "state").unlink()
    if damage == "unlisted":
        (last / MANIFEST).unlink()
    if damage == "unreadable":
        (last / MANIFEST).write_text("{")
    assert last_checkpoint(output) == output / "checkpoint-2"
    assert "checkpoint-10 is passed over" in capsys.readouterr().err


def test_no_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "absent") is None


def test_a_name_that_is_taken_is_taken_over(output: Path) -> None:
    """A run that passed a broken checkpoint over writes a new one under its name."""
    folder = output / STAGING / "checkpoint-10"
    folder.mkdir(parents=True)
    (folder / "new").write_bytes(b"")
    commit(folder, output / "checkpoint-10")
    assert {path.name for path in (output / "checkpoint-10").iterdir()} == {"new", MANIFEST}


def test_remove(output: Path) -> None:
    (output / STAGING / "checkpoint-12").mkdir(parents=True)
    (output / "trainer_state.json").write_text("{}")
    assert remove_checkpoints(output) == 2
    assert [path.name for path in output.iterdir()] == ["trainer_state.json"]
