"""Things that happen between steps."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from .trainer import DistillationArguments

__all__ = ["TimedCheckpoints"]


class TimedCheckpoints(TrainerCallback):
    """Saves by the clock, so that a short run on a slow machine loses a minute at most when it is interrupted.

    Only where the recipe saves nothing itself, and in one process (several would have to agree on the moment).
    """

    def __init__(self, args: DistillationArguments) -> None:
        self.every = args.checkpoint_every_s if args.save_strategy == "no" and args.world_size == 1 else 0.0
        self.last = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.monotonic()
        if self.every and now - self.last >= self.every and state.global_step < state.max_steps:
            control.should_save = True
            self.last = now
