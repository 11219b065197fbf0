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
from transformers import TrainerCallback

from vlkd_hub.errors import RecipeError

from .callbacks import TimedCheckpoints
from .checkpoints import last_checkpoint, remove_checkpoints
from .checks import check_batches
from .methods import (
    AlignMethod,
    ClassifyMethod,
    ImageQuantizerMethod,
    Method,
    SCSTMethod,
    SmkeMethod,
    TextClassificationMethod,
    TextInfillingMethod,
    UnimodalMethod,
    VLKDFinetuneMethod,
    VLKDMethod,
)
from .recipe import Phase, suggestion
from .runs import is_main_process
from .sharding import to_scalars, unshard
from .trainer import DistillationArguments, DistillationTrainer

__all__ = ["METHODS", "bf16_is_fast", "check_options", "make_method", "train_phase"]

METHODS: dict[str, type[Method]] = {
    "align": AlignMethod,
    "classify": ClassifyMethod,
    "image_quantizer": ImageQuantizerMethod,
    "scst": SCSTMethod,
    "smke": SmkeMethod,
    "summarization": VLKDFinetuneMethod,  # a summary is learnt as a caption is, without a picture
    "text_classification": TextClassificationMethod,
    "text_infilling": TextInfillingMethod,
    "unimodal": UnimodalMethod,
    "vlkd": VLKDMethod,
    "vlkd_finetune": VLKDFinetuneMethod,
}


def bf16_is_fast() -> bool:
    """Whether bf16 autocast pays here: a GPU that has it, or a CPU with AMX or AVX-512 bf16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def make_method(phase: Phase, **context: Any) -> Method:
    """Build a phase's method.

    Args:
        phase: names it and its options.
        **context: what a recipe cannot hold (a reward, a processor).

    Raises:
        RecipeError: unknown method or option.
    """
    if phase.method not in METHODS:
        raise RecipeError(f"There is no method {phase.method!r}.{suggestion(phase.method, METHODS)}")
    try:
        return METHODS[phase.method](**context, **phase.method_options)
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
    collator: Callable[[Sequence[Any]], dict[str, torch.Tensor]],
    output: Path,
    *,
    overrides: dict[str, Any] | None = None,
    resume: bool = False,
    method: Method | None = None,
    teacher: nn.Module | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, float]:
    """Train ``model`` in place.

    Args:
        phase: method and training arguments.
        model: the student.
        dataset: rows.
        collator: makes batches of rows.
        output: checkpoints and logs go here.
        overrides: fields of :class:`DistillationArguments` that win over the recipe's.
        resume: continue from the last whole checkpoint in ``output``; otherwise those that are there are deleted.
        method: in the place of the one that the phase names, when it needs more than options.
        teacher: for batches whose teacher outputs are not cached.
        callbacks: hear of every step, beside the one that saves by the clock.

    Returns:
        The Trainer's closing metrics.

    Raises:
        RecipeError: a training argument that does not exist, a bad value, or batches that would train nothing.
    """
    arguments = _arguments(phase, output, overrides or {})
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    scalars = {name for name, parameter in model.named_parameters() if parameter.dim() == 0}
    method = method or make_method(phase)
    check_batches(method, dataset, arguments.train_batch_size, arguments.world_size)
    trainer = DistillationTrainer(
        method=method,
        args=arguments,
        model=model,
        train_dataset=dataset,
        data_collator=collator,
        teacher=teacher,
        callbacks=[TimedCheckpoints(arguments), *callbacks],
    )
    if not resume and is_main_process():
        remove_checkpoints(output)
    checkpoint = last_checkpoint(output) if resume else None
    metrics = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None).metrics
    trainer.save_state()
    if arguments.save_strategy == "no" and is_main_process():
        remove_checkpoints(output)
    if trainer.is_fsdp_enabled:
        unshard(model)
        to_scalars(model, scalars)
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
    values = defaults | phase.train | overrides
    if values["save_strategy"] == "no":
        values.setdefault("save_total_limit", 1)  # of the checkpoints by the clock
    try:
        return DistillationArguments(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train options of {phase.method!r}: {error}") from error
