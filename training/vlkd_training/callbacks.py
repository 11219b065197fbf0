"""Things that happen between steps."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState

from .trainer import DistillationArguments

__all__ = ["TimedCheckpoints"]

_AGREE_AT = 8
"""Steps between two questions to the first process: each makes the others wait for it."""


class TimedCheckpoints(TrainerCallback):
    """Saves by the clock, so that a short run on a slow machine loses a minute at most when it is interrupted.

    Only where the recipe saves nothing itself. Of several processes the first says when, at every eighth step.
    """

    def __init__(self, args: DistillationArguments) -> None:
        self.every = args.checkpoint_every_s if args.save_strategy == "no" else 0.0
        self.last = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.monotonic()
        if self.every and state.global_step < state.max_steps and self._due(args, state.global_step, now):
            control.should_save = True
            self.last = now

    def _due(self, args: Any, step: int, now: float) -> bool:
        due = now - self.last >= self.every
        if args.world_size == 1:
            return due
        if step % _AGREE_AT:
            return False
        word = torch.tensor(due, dtype=torch.uint8, device=args.device)
        dist.broadcast(word, 0)
        return bool(word)
