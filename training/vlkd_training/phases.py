"""Runs one phase of a recipe with the Hugging Face Trainer."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers.trainer_utils import get_last_checkpoint

from vlkd_hub.errors import RecipeError

from .methods import AlignMethod, Method, TextInfillingMethod, VLKDFinetuneMethod, VLKDMethod
from .recipe import Phase, suggestion
from .trainer import DistillationArguments, DistillationTrainer

__all__ = ["METHODS", "bf16_is_fast", "check_options", "make_method", "train_phase"]

METHODS: dict[str, type[Method]] = {
    "align": AlignMethod,
    "text_infilling": TextInfillingMethod,
    "vlkd": VLKDMethod,
    "vlkd_finetune": VLKDFinetuneMethod,
}


def bf16_is_fast() -> bool:
    """Whether bf16 autocast pays here: a GPU that has it, or a CPU with AMX or AVX-512 bf16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def make_method(phase: Phase) -> Method:
    """Build a phase's method.

    Raises:
        RecipeError: unknown method or option.
    """
    if phase.method not in METHODS:
        raise RecipeError(f"There is no method {phase.method!r}.{suggestion(phase.method, METHODS)}")
    try:
        return METHODS[phase.method](**phase.method_options)
    except TypeError as error:
        raise RecipeError(f"method_options of {phase.method!r}: {error}.") from error


def check_options(found: dict[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse keys that nothing reads.

    Raises:
        RecipeError: a key is unknown; the nearest known one is named.
    """
    for key in found:
        if key not in known:
            raise RecipeError(f"{where}: there is no key {key!r}.{suggestion(key, known)}")


def train_phase(
    phase: Phase,
    model: nn.Module,
    dataset: Dataset,
    collator: Callable[[Sequence[int]], dict[str, torch.Tensor]],
    output: Path,
    *,
    overrides: dict[str, Any] | None = None,
    resume: bool = True,
) -> dict[str, float]:
    """Train ``model`` in place.

    Args:
        phase: method and training arguments.
        model: the student.
        dataset: rows.
        collator: makes batches of rows.
        output: checkpoints and logs go here.
        overrides: fields of :class:`DistillationArguments` that win over the recipe's.
        resume: continue from the last whole checkpoint in ``output``.

    Returns:
        The Trainer's closing metrics.

    Raises:
        RecipeError: a training argument that does not exist, or a bad value.
    """
    arguments = _arguments(phase, output, overrides or {})
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    trainer = DistillationTrainer(
        method=make_method(phase), args=arguments, model=model, train_dataset=dataset, data_collator=collator
    )
    checkpoint = get_last_checkpoint(str(output)) if resume and output.is_dir() else None
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_state()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(before[name])
    return metrics


def _arguments(phase: Phase, output: Path, overrides: dict[str, Any]) -> DistillationArguments:
    known = {item.name for item in dataclasses.fields(DistillationArguments) if item.init}
    check_options(phase.train | overrides, sorted(known), f"train options of {phase.method!r}")
    defaults: dict[str, Any] = {
        "output_dir": str(output),
        "bf16": bf16_is_fast(),
        "use_cpu": not torch.cuda.is_available(),
        "report_to": ["tensorboard"] if importlib.util.find_spec("tensorboard") else [],
        "save_strategy": "no",
        "logging_steps": 20,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": bool(os.environ.get("VLKD_QUIET")),
    }
    try:
        return DistillationArguments(**(defaults | phase.train | overrides))
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train options of {phase.method!r}: {error}") from error
