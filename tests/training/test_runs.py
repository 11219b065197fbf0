"""A verb that was interrupted goes on in the phase where it stopped, and only if it is the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vlkd_hub.errors import RecipeError
from vlkd_training import saving
from vlkd_training.runs import Run

FACTS = {"recipe": {"phases": [1, 2]}, "seed": 0}


class Phases:
    """Two phases that add to a weight; the second dies when told to."""

    def __init__(self, output: Path, resume: bool, dies: bool = False, facts: dict[str, Any] = FACTS) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(2, 2)
        self.ran: list[tuple[int, bool]] = []
        run = Run(output, facts, resume)
        for number in range(2):

            def train(folder: Path, resume: bool, number: int = number) -> dict[str, float]:
                self.ran.append((number, resume))
                folder.mkdir(parents=True, exist_ok=True)
                if dies and number == 1:
                    raise KeyboardInterrupt
                with torch.no_grad():
                    self.model.weight += number + 1
                return {f"loss-{number}": 0.5}

            self.metrics = run.train(number, self.model, train)
        run.save(self.model, None, {}, self.metrics)


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved at the end is another module's business."""
    monkeypatch.setattr(saving, "save_model", lambda *args: None)


def test_a_finished_phase_is_not_trained_again(tmp_path: Path) -> None:
    unbroken = Phases(tmp_path / "a", resume=False)
    with pytest.raises(KeyboardInterrupt):
        Phases(tmp_path / "b", resume=False, dies=True)
    resumed = Phases(tmp_path / "b", resume=True)
    assert resumed.ran == [(1, True)]
    assert torch.equal(resumed.model.weight, unbroken.model.weight)
    assert json.loads((tmp_path / "b" / "train_metrics.json").read_text()) == resumed.metrics


def test_a_finished_run_leaves_nothing_to_resume(tmp_path: Path) -> None:
    """--resume on a finished output trains anew, as a first call would."""
    Phases(tmp_path, resume=False)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (tmp_path / "run.json").exists()
    assert Phases(tmp_path, resume=True).ran == [(0, False), (1, False)]


def test_without_resume_it_starts_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        Phases(tmp_path, resume=False, dies=True)
    (tmp_path / "phase-2" / "checkpoint-3").mkdir(parents=True)
    assert Phases(tmp_path, resume=False).ran == [(0, False), (1, False)]
    assert not (tmp_path / "phase-2" / "checkpoint-3").exists()
    assert "starting over (--resume goes on from it)" in " ".join(capsys.readouterr().err.split())


def test_another_run_is_refused(tmp_path: Path) -> None:
    """Half of one recipe and half of another would be a student that nobody asked for."""
    with pytest.raises(KeyboardInterrupt):
        Phases(tmp_path, resume=False, dies=True)
    with pytest.raises(RecipeError, match="an interrupted run with another recipe, seed. Give what it was started"):
        Phases(tmp_path, resume=True, facts={"recipe": {}, "seed": 1})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RecipeError, match="run.json is unreadable"):
        Phases(tmp_path, resume=True)


def test_only_process_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(KeyboardInterrupt):
        Phases(tmp_path / "out", resume=False, dies=True)
    assert not list(tmp_path.rglob("*.json"))
