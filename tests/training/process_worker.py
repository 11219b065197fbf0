"""Trains the toy student in each of the processes that a launcher starts; run by test_processes.py.

Usage: process_worker.py STUDENT OUTPUT METHOD BATCH CHUNK
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.toy import AlignRows, Rows, make_trainer, parameters_of, without_dropout

from vlkd_training.methods import AlignMethod, VLKDMethod


def main(student: str, output: str, method: str, batch: str, chunk: str) -> None:
    """Three steps of SGD, then process 0 writes parameters and losses; the other checks that it holds the same."""
    torch.set_num_threads(1)
    made = {"align": AlignMethod, "vlkd": lambda: VLKDMethod(gamma=10.0), "itcl": lambda: VLKDMethod(0.0, 1.0, 0.0)}
    trainer = make_trainer(
        Path(student),
        Path(output) / "run",
        method=made[method](),
        rows=AlignRows() if method == "align" else Rows(),
        model=without_dropout(Path(student), dual=method == "align"),
        per_device_train_batch_size=int(batch),
        optim="sgd",
        learning_rate=0.05,
        cached_contrastive_chunk=int(chunk),
        dataloader_drop_last=True,
    )
    trainer.train()
    found = parameters_of(trainer)
    for name, value in sorted(found.items()):
        theirs = trainer.accelerator.reduce(value, "mean") if trainer.args.world_size > 1 else value
        assert torch.allclose(theirs, value, atol=1e-7), f"processes differ in {name}"
    if trainer.is_world_process_zero():
        losses = [entry for entry in trainer.state.log_history if "loss" in entry]
        torch.save({"parameters": found, "losses": losses, "world": trainer.args.world_size}, Path(output) / "end.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
