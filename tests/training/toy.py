"""A student, rows and a method small enough to train in a test, shared by the tests of the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, default_collate
from transformers import AutoConfig

from vlkd_hub.models import DualEncoderConfig, DualEncoderModel, VlkdForConditionalGeneration
from vlkd_training.methods import Method, VLKDMethod
from vlkd_training.trainer import DistillationArguments, DistillationTrainer

__all__ = [
    "ROWS",
    "AlignRows",
    "Counting",
    "Queue",
    "Rows",
    "make_trainer",
    "noisy",
    "parameters_of",
    "run_state",
    "without_dropout",
]

ROWS = 8


class Rows(Dataset):
    """Random texts, pictures and teacher vectors; ``groups`` switches to batches of one group."""

    def __init__(self, groups: Sequence[int] | None = None) -> None:
        generator = torch.Generator().manual_seed(3)
        ids = torch.randint(5, 25, (ROWS, 6), generator=generator)
        teacher = nn.functional.normalize(torch.randn(ROWS, 8, generator=generator), dim=-1)
        pixels = torch.randn(ROWS, 3, 32, 32, generator=generator)
        self.items = [
            {
                "input_ids": ids[row],
                "attention_mask": torch.ones_like(ids[row]),
                "clean_input_ids": ids[row],
                "clean_attention_mask": torch.ones_like(ids[row]),
                "labels": ids[row],
                "pixel_values": pixels[row],
                "teacher_text_embeds": teacher[row],
                "image_ids": torch.tensor(row),
            }
            for row in range(ROWS)
        ]
        if groups is not None:
            self.groups = groups

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return self.items[row]


class AlignRows(Rows):
    """Pictures and texts for a dual encoder; two rows show the same picture."""

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        names = ("input_ids", "attention_mask", "pixel_values")
        return {name: self.items[row][name] for name in names} | {"image_ids": torch.tensor(row // 2)}


def without_dropout(student: Path, dual: bool = False) -> nn.Module:
    """The toy student with every dropout at 0; or a dual encoder of the same two encoders."""
    config = AutoConfig.from_pretrained(student)
    for part in (config.text_encoder, config.decoder):
        for name in ("dropout", "attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"):
            setattr(part, name, 0.0)
    if not dual:
        return VlkdForConditionalGeneration.from_pretrained(student, config=config)
    torch.manual_seed(0)
    shared = {"projection_dim": config.projection_dim, "vision_config": config.vision_config}
    return DualEncoderModel(DualEncoderConfig(text_config=config.text_encoder, **shared))


def noisy(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A collator that draws, as span infilling does: one token of each text is masked."""
    batch = default_collate(list(rows))
    ids = batch["input_ids"].clone()
    ids[torch.arange(len(ids)), torch.randint(ids.shape[1], (len(ids),))] = 4
    return batch | {"input_ids": ids}


class Counting(VLKDMethod):
    """VLKD with a buffer of its own."""

    def __init__(self) -> None:
        super().__init__(gamma=10.0)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        if outputs.logits.requires_grad:
            self.steps += 1
        return super().forward(outputs, batch)


class Queue(VLKDMethod):
    """VLKD with a queue of past text vectors that grows, and that the loss depends on: it overrides both hooks."""

    def __init__(self) -> None:
        super().__init__(gamma=10.0)
        self.queue = torch.zeros(0, 8)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        parts = super().forward(outputs, batch)
        if len(self.queue):
            parts["queue"] = (outputs.text_embeds @ self.queue.t()).logsumexp(dim=-1).mean()
        self.queue = torch.cat([self.queue, outputs.text_embeds.detach()])[-12:]
        return parts

    def checkpoint_state(self) -> dict[str, torch.Tensor]:
        return {"queue": self.queue}

    def load_checkpoint_state(self, state: dict[str, torch.Tensor]) -> None:
        self.queue = state["queue"]


def make_trainer(
    student: Path,
    output: Path,
    *,
    method: Method | None = None,
    rows: Dataset | None = None,
    collator: Any = None,
    model: nn.Module | None = None,
    **changes: Any,
) -> DistillationTrainer:
    values = {
        "output_dir": str(output),
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 5,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return DistillationTrainer(
        model=model or VlkdForConditionalGeneration.from_pretrained(student),
        method=method or VLKDMethod(gamma=10.0),
        args=DistillationArguments(**(values | changes)),
        train_dataset=rows or Rows(),
        data_collator=collator,
    )


def parameters_of(trainer: DistillationTrainer) -> dict[str, torch.Tensor]:
    """Copies of every parameter by name."""
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def run_state(trainer: DistillationTrainer) -> dict[str, Any]:
    """Everything that an exact resume must bring back, flat: name -> tensor or number."""
    found: dict[str, Any] = {f"parameter {name}": value for name, value in parameters_of(trainer).items()}
    for number, state in trainer.optimizer.state_dict()["state"].items():
        found |= {f"optimizer {number} {name}": value for name, value in state.items()}
    found["schedule"] = trainer.lr_scheduler.state_dict()["_last_lr"]
    found["random numbers"] = torch.get_rng_state()
    found |= {f"method {name}": value for name, value in trainer.method.checkpoint_state().items()}
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    found["losses"] = [{k: v for k, v in entry.items() if k != "step_time"} for entry in history]
    return found
