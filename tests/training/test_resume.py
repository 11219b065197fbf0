"""A resumed run is the unbroken one: weights, optimizer, schedule, random numbers, queues, losses, to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vlkd_hub.errors import TrainingError
from vlkd_training.checkpoints import MANIFEST

from .toy import Counting, Queue, Rows, make_trainer, noisy, run_state

GROUPED = [0, 0, 0, 0, 1, 1, 1, 1]


class Stopped(Exception):
    """The process dies here."""


class StoppingQueue(Queue):
    """Dies in the middle of an optimizer step: after some of its batches."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.left == 0:
            raise Stopped
        self.left -= 1
        return super().forward(outputs, batch)


class Numbers(Rows):
    """Rows by number, as the product's own data sets give them."""

    def __getitem__(self, row: int) -> int:
        return row


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [
        name
        for name, value in one.items()
        if not (torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name])
    ]


@pytest.mark.parametrize(
    ("groups", "accumulation", "saved", "stopped"),
    [
        pytest.param(None, 1, 3, 10, id="first-epoch"),
        pytest.param(None, 1, 4, 10, id="between-epochs"),
        pytest.param(GROUPED, 1, 6, 10, id="second-epoch-grouped"),
        pytest.param(None, 2, 3, 9, id="mid-accumulation"),
    ],
)
def test_a_resumed_run_is_the_unbroken_one(
    tiny_student: Path, tmp_path: Path, groups: list[int] | None, accumulation: int, saved: int, stopped: int
) -> None:
    """Dropout on, a collator that draws, a queue in the loss; losses are logged every 2 steps, so across the break.

    The run dies in batch ``stopped``, later than its last checkpoint: for accumulation 2 between two batches of one
    optimizer step.
    """
    options: dict[str, Any] = {
        "max_steps": 7,
        "save_strategy": "steps",
        "save_steps": saved,
        "logging_steps": 2,
        "gradient_accumulation_steps": accumulation,
        "collator": noisy,
        "rows": Rows(groups),
    }
    unbroken = make_trainer(tiny_student, tmp_path / "a", method=Queue(), **options)
    assert unbroken.model.config.decoder.dropout > 0
    unbroken.train()
    expected = run_state(unbroken)
    assert len(expected["losses"]) == 3

    dying = make_trainer(tiny_student, tmp_path / "b", method=StoppingQueue(stopped), **options)
    if stopped < 7 * accumulation:
        with pytest.raises(Stopped):
            dying.train()
    else:
        dying.train()
    resumed = make_trainer(tiny_student, tmp_path / "b", method=Queue(), **options)
    torch.rand(11)  # a new process is at another place in its random numbers
    resumed.train(resume_from_checkpoint=str(tmp_path / "b" / f"checkpoint-{saved}"))
    assert resumed.state.global_step == 7
    assert len(expected["method queue"]) == 12
    assert differences(run_state(resumed), expected) == []


def test_workers_draw_the_same_after_a_break(tiny_student: Path, tmp_path: Path) -> None:
    """Masks drawn in loader processes depend on the rows alone, not on when the process started."""
    rows = Rows()
    options: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "dataloader_num_workers": 2}
    options |= {"rows": Numbers(), "collator": lambda batch: noisy([rows[row] for row in batch])}
    unbroken = make_trainer(tiny_student, tmp_path, **options)
    unbroken.train()
    resumed = make_trainer(tiny_student, tmp_path, **options)
    torch.rand(11)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert differences(run_state(resumed), run_state(unbroken)) == []


def test_a_methods_buffers_travel_by_themselves(tiny_student: Path, tmp_path: Path) -> None:
    """A method that only registers buffers need not override the hooks."""
    options: dict[str, Any] = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    make_trainer(tiny_student, tmp_path, method=Counting(), **options).train()
    resumed = make_trainer(tiny_student, tmp_path, method=Counting(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert float(resumed.method.steps) == 3


def test_a_checkpoint_without_the_methods_state_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    """Going on with an empty queue would train something else, silently."""
    options: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    make_trainer(tiny_student, tmp_path, **options).train()
    with pytest.raises(TrainingError, match="holds no state of the method Counting.*start over without --resume"):
        make_trainer(tiny_student, tmp_path, method=Counting(), **options).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-1")
        )


@pytest.mark.parametrize("method", [Queue, None])
def test_another_number_of_processes_is_refused(tiny_student: Path, tmp_path: Path, method: Any) -> None:
    """With a state of the method or without one: the rows of each process would be others."""
    options: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    options |= {} if method is None else {"method": method()}
    make_trainer(tiny_student, tmp_path, **options).train()
    folder = tmp_path / "checkpoint-1"
    for mine in list(folder.glob("*_0.safetensors")):
        shutil.copyfile(mine, folder / mine.name.replace("_0.", "_1."))
    with pytest.raises(TrainingError, match="saved by 2 processes and 1 go on.*start over without --resume"):
        make_trainer(tiny_student, tmp_path, **options).train(resume_from_checkpoint=str(folder))


def test_older_checkpoints_go_only_when_the_new_one_is_there(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one checkpoint to keep, a save that dies must leave the one before it."""
    options: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = make_trainer(tiny_student, tmp_path, method=Counting(), **options)
    save = trainer._save_position

    def dies(folder: Path) -> None:
        if folder.name == "checkpoint-2":
            raise Stopped
        save(folder)

    monkeypatch.setattr(trainer, "_save_position", dies)
    with pytest.raises(Stopped):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "checkpoint-1")
    make_trainer(tiny_student, tmp_path, method=Counting(), **options).train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert (tmp_path / "checkpoint-2" / MANIFEST).exists()
    assert not (tmp_path / "saving").exists()
