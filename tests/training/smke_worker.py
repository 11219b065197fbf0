"""Trains toy S-SMKE students in each of the processes that a launcher starts; run by test_smke_processes.py.

Usage: smke_worker.py OUTPUT BATCH VARIANT...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.toy import parameters_of
from training.toy_smke import smke_trainer


def main(output: str, batch: str, *variants: str) -> None:
    """Three steps of SGD of each variant, then process 0 writes parameters, losses and what the method remembers."""
    torch.set_num_threads(1)
    for variant in variants:
        trainer = smke_trainer(
            variant,
            Path(output) / variant,
            per_device_train_batch_size=int(batch),
            optim="sgd",
            learning_rate=0.02,
        )
        trainer.train()
        found = parameters_of(trainer) | trainer.method.checkpoint_state()
        for name, value in sorted(found.items()):
            theirs = trainer.accelerator.reduce(value.double(), "mean") if trainer.args.world_size > 1 else value
            assert torch.allclose(theirs.double(), value.double(), atol=1e-7), f"{variant}: processes differ in {name}"
        if trainer.is_world_process_zero():
            losses = [entry for entry in trainer.state.log_history if "loss" in entry]
            end = {"state": found, "losses": losses, "world": trainer.args.world_size}
            torch.save(end, Path(output) / f"{variant}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
