"""What the runs of every ladder share: training with a curve, and weights that later runs start from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset
from transformers import TrainerCallback

from vlkd_hub.errors import InvalidInputError
from vlkd_training.methods import Method
from vlkd_training.paper.jobs import Job, Tell
from vlkd_training.phases import train_phase
from vlkd_training.recipe import Phase

__all__ = ["Weights", "loss_curves", "train"]

_POINTS = 25
"""Points of a loss curve."""

_TRAINING = 0.8
"""Part of a run that training takes, for the bar; the rest is scoring."""


class _Steps(TrainerCallback):
    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.tell(_TRAINING * state.global_step / state.max_steps)


def train(
    job: Job,
    phase: Phase,
    model: nn.Module,
    rows: Dataset,
    collator: Callable[[Sequence[Any]], dict[str, torch.Tensor]],
    folder: Path,
    tell: Tell,
    method: Method | None = None,
    teacher: nn.Module | None = None,
) -> dict[str, list[list[float]]]:
    """Train ``model`` in place, going on from a checkpoint in ``folder`` if one is there; return its loss curves.

    ``method`` stands in the place of the one that the phase names, when it needs more than options; ``teacher`` answers
    where its outputs are not cached.
    """
    settings = {
        "seed": job.seed,
        "logging_steps": max(1, phase.train["max_steps"] // _POINTS),
        "report_to": "none",
        "disable_tqdm": True,
    }
    train_phase(
        phase,
        model,
        rows,
        collator,
        folder,
        overrides=settings,
        resume=True,
        method=method,
        teacher=teacher,
        callbacks=[_Steps(tell)],
    )
    return loss_curves(folder)


def loss_curves(folder: Path) -> dict[str, list[list[float]]]:
    """Part of the loss -> [step, value] pairs, from what the trainer left in ``folder``."""
    found: dict[str, list[list[float]]] = {}
    for entry in json.loads((folder / "trainer_state.json").read_text())["log_history"]:
        for name, value in entry.items():
            if name.startswith("loss/"):
                found.setdefault(name.removeprefix("loss/"), []).append([entry["step"], float(value)])
    return found


class Weights:
    """What runs leave for later ones, one file a run.

    Args:
        folder: made when something is kept.
        frozen: prefix of the parameters that no run trains; they are not written.
    """

    def __init__(self, folder: Path, frozen: str) -> None:
        self.folder, self.frozen = folder, frozen

    def keep(self, job: Job, model: nn.Module) -> None:
        """Write the parameters, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        work = self._file(job.id).with_suffix(".tmp")
        save_file({name: value.detach().contiguous() for name, value in self._own(model)}, work)
        work.replace(self._file(job.id))

    def take(self, id: str, model: nn.Module) -> None:
        """Give ``model`` the parameters that the run ``id`` ended with.

        Raises:
            InvalidInputError: they are gone.
        """
        file = self._file(id)
        if not file.is_file():
            raise InvalidInputError(f"{file} is gone, and a run starts from it; delete the JSON file of {id} in runs/.")
        found = load_file(file)
        with torch.no_grad():
            for name, value in self._own(model):
                value.copy_(found[name])

    def _file(self, id: str) -> Path:
        return self.folder / f"{id.replace('/', '--')}.safetensors"

    def _own(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [item for item in model.named_parameters() if not item[0].startswith(self.frozen)]
