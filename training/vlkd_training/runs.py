"""A run of a verb that may be interrupted: what it was started with, and which of its phases are done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import load_model, save_model
from torch import nn

from vlkd_hub.errors import RecipeError

from . import saving
from .cache import fingerprint
from .checkpoints import remove_checkpoints

__all__ = ["Run", "is_main_process"]

_FACTS = "run.json"
_WEIGHTS = "phase.safetensors"
_METRICS = "phase.json"
_console = Console(stderr=True)


def is_main_process() -> bool:
    """Whether this process writes files: the only one, or number 0 of those that torchrun or accelerate started."""
    return int(os.environ.get("RANK", "0")) == 0


class Run:
    """The output folder of one training verb while it runs.

    Args:
        output: the folder; made when absent.
        facts: what the run depends on, JSON-like. A resumed run must have the same.
        resume: go on from what an interrupted run left; otherwise that is deleted.

    Raises:
        RecipeError: the folder holds an interrupted run of other facts.
    """

    def __init__(self, output: Path, facts: dict[str, Any], resume: bool) -> None:
        self.output = output
        self.facts = {name: fingerprint({name: value}) for name, value in facts.items()}
        self.resume = resume and (output / _FACTS).is_file()
        if self.resume:
            self._compare()
        elif is_main_process():
            if (output / _FACTS).is_file():
                _console.print(f"{output} holds an interrupted run; starting over (--resume goes on from it).")
            self._forget()
            output.mkdir(parents=True, exist_ok=True)
            (output / _FACTS).write_text(json.dumps(self.facts, indent=1) + "\n")

    def _compare(self) -> None:
        try:
            before = json.loads((self.output / _FACTS).read_text())
        except ValueError as error:
            raise RecipeError(f"{self.output / _FACTS} is unreadable; start over without --resume.") from error
        changed = sorted(name for name in self.facts if before.get(name) != self.facts[name])
        if changed:
            raise RecipeError(
                f"{self.output} holds an interrupted run with another {', '.join(changed)}. "
                "Give what it was started with, or start over without --resume."
            )

    def phase(self, number: int) -> Path:
        """Folder of a phase, counted from 0; its checkpoints and logs lie there."""
        return self.output / f"phase-{number + 1}"

    def train(self, number: int, model: nn.Module, train: Callable[..., dict[str, float]]) -> dict[str, float]:
        """Train a phase, or take what it ended with before the break; return its metrics.

        Args:
            number: of the phase, counted from 0.
            model: trained in place.
            train: called with the phase's folder and ``resume``.
        """
        folder = self.phase(number)
        if self.resume and (folder / _METRICS).is_file():
            load_model(model, folder / _WEIGHTS)
            _console.print(f"Phase {number + 1}: done before the break")
            return json.loads((folder / _METRICS).read_text())
        metrics = train(folder, resume=self.resume)
        if is_main_process():
            save_model(model, str(folder / _WEIGHTS))
            _replace(folder / _METRICS, json.dumps(metrics))  # last: it says that the weights are whole
        return metrics

    def save(self, model: Any, processor: Any, lineage: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write the finished model; after that nothing is left to resume."""
        if is_main_process():
            saving.save_model(model, processor, self.output, lineage)
            _replace(self.output / "train_metrics.json", json.dumps(metrics, indent=1))
            self._forget(checkpoints=False)

    def _forget(self, checkpoints: bool = True) -> None:
        for folder in self.output.glob("phase-*"):
            for name in (_METRICS, _WEIGHTS):
                (folder / name).unlink(missing_ok=True)
            if checkpoints:
                remove_checkpoints(folder)
        (self.output / _FACTS).unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    work = path.with_suffix(".tmp")
    work.write_text(text)
    os.replace(work, path)
