"""A pickle planted in a checkpoint never runs when the run goes on: optimizer, schedule, random numbers, weights."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from .toy import make_trainer


class Canary:
    """Unpickling it makes the file ``at``."""

    def __init__(self, at: Path) -> None:
        self.at = str(at)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.at, "w"))


@pytest.fixture(scope="module")
def checkpoint(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of a run."""
    output = tmp_path_factory.mktemp("run")
    make_trainer(tiny_student, output, max_steps=1, save_strategy="steps", save_steps=1).train()
    return output / "checkpoint-1"


def plant(file: Path, ran: Path, form: str) -> None:
    """Put the canary where the state was: alone, or deep inside a state that looks right."""
    if form == "pickle":
        file.write_bytes(pickle.dumps(Canary(ran)))
    elif form == "whole":
        torch.save(Canary(ran), file)
    else:
        state = torch.load(file, weights_only=False) if file.exists() else {}
        torch.save({**state, "planted": [Canary(ran)]}, file)


@pytest.mark.parametrize("form", ["inside", "whole", "pickle"])
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin"])
def test_a_planted_pickle_does_not_run(
    name: str, form: str, checkpoint: Path, tiny_student: Path, tmp_path: Path
) -> None:
    """The run stops with an error instead; a pickle in place of the weights counts as weights that are missing."""
    folder, ran = tmp_path / "run" / "checkpoint-1", tmp_path / "ran"
    shutil.copytree(checkpoint, folder)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    else:
        assert (folder / name).is_file(), "the checkpoint keeps its state under another name: plant there"
    plant(folder / name, ran, form)
    trainer = make_trainer(tiny_student, tmp_path / "run", max_steps=2)
    with pytest.raises(Exception, match="(?i)weights_only|weights only|unpickl|not a valid|can't find"):
        trainer.train(resume_from_checkpoint=str(folder))
    assert not ran.exists()


def test_the_pickle_would_run(tmp_path: Path) -> None:
    """Else the test above would pass on a dud."""
    plant(tmp_path / "a.pt", tmp_path / "ran", "inside")
    torch.load(tmp_path / "a.pt", weights_only=False)["planted"][0].close()
    assert (tmp_path / "ran").exists()
