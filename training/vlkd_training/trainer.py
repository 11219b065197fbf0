"""The Hugging Face Trainer, with a method in place of the model's own loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments

from vlkd_hub.errors import RecipeError

from .methods import Method
from .sampling import HomogeneousSampler

__all__ = ["DistillationArguments", "DistillationTrainer"]

_METHOD_STATE = "method_state.safetensors"


@dataclass
class DistillationArguments(TrainingArguments):
    """``TrainingArguments`` plus what distillation needs."""

    freeze: list[str] = field(default_factory=list)
    """Prefixes of parameter names that stay as they are, for example ``vlkd.text_encoder.embeddings``."""

    max_logit_scale: float = 100.0
    """Upper bound of 1 / temperature, as CLIP clips it; without one a small data set drives it away."""

    lr_multipliers: dict[str, float] = field(default_factory=dict)
    """Learning-rate factor by prefix of a parameter name: freshly made layers can learn faster than pretrained ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_logit_scale <= 1.0:
            raise RecipeError(f"max_logit_scale is 1 / temperature and must exceed 1, got {self.max_logit_scale}.")


class DistillationTrainer(Trainer):
    """Runs the student, hands its outputs to the method, sums and logs the parts of the loss by name.

    Args:
        method: which tensors go to which loss; its buffers are saved with every checkpoint.
        args: :class:`DistillationArguments`.
        **kwargs: everything else that ``transformers.Trainer`` takes.
    """

    def __init__(self, *, method: Method, args: DistillationArguments, **kwargs: Any) -> None:
        model = kwargs["model"]
        _freeze(model, args.freeze)
        args.remove_unused_columns = False
        args.label_names = []
        super().__init__(args=args, **kwargs)
        self.method = method.to(args.device)
        self.model_accepts_loss_kwargs = False  # parts are batch means: the Trainer divides by accumulation steps
        self._parts: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Forward the student once and return the sum of the method's parts.

        Raises:
            FloatingPointError: a part is NaN or infinite; its name and value are in the message.
        """
        wanted = {name: inputs[name] for name in self.method.student_inputs if inputs.get(name) is not None}
        outputs = model(**wanted, **self.method.student_options)
        parts = self.method(outputs, inputs)
        for name, value in parts.items():
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"The loss part {name!r} became {value.item()} at step {self.state.global_step}. "
                    "Lower the learning rate, check the teacher's outputs, or train in fp32 (bf16: false)."
                )
            self._parts[name] += float(value.detach())
            self._counts[name] += 1
        loss = torch.stack(list(parts.values())).sum()
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One step; the temperature is clipped before it, as CLIP does."""
        scale = self._logit_scale()
        if scale is not None:
            with torch.no_grad():
                scale.clamp_(max=float(torch.tensor(self.args.max_logit_scale).log()))
        return super().training_step(model, *args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each part since the last log, and the temperature."""
        if "loss" in logs and self._parts:
            for name, total in self._parts.items():
                logs[f"loss/{name}"] = total / self._counts[name]  # batches of one task lack the other tasks' parts
            scale = self._logit_scale()
            if scale is not None and scale.requires_grad:
                logs["temperature"] = float((-scale.detach()).exp())
            self._parts.clear()
            self._counts.clear()
        super().log(logs, *args, **kwargs)

    def _logit_scale(self) -> torch.Tensor | None:
        model = self.accelerator.unwrap_model(self.model)
        model = getattr(model, "vlkd", model)
        return getattr(model, "logit_scale", None)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        groups = getattr(dataset, "groups", None)
        if groups is None or not isinstance(dataset, Sized):
            return super()._get_train_sampler(train_dataset)
        size = self.args.train_batch_size * self.args.world_size
        return HomogeneousSampler(groups, size, self.args.seed)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """AdamW with one group per learning-rate factor and weight decay."""
        if self.optimizer is None and self.args.lr_multipliers:
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    decay = self.args.weight_decay if name in decayed else 0.0
                    groups[self._multiplier(name), decay].append(parameter)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            options.pop("lr", None)
            self.optimizer = kind(
                [
                    {"params": parameters, "lr": self.args.learning_rate * factor, "weight_decay": decay}
                    for (factor, decay), parameters in groups.items()
                ],
                lr=self.args.learning_rate,
                **options,
            )
        return super().create_optimizer(*args, **kwargs)

    def _multiplier(self, name: str) -> float:
        matches = [prefix for prefix in self.args.lr_multipliers if name.startswith(prefix)]
        return self.args.lr_multipliers[max(matches, key=len)] if matches else 1.0

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        state = self.method.state_dict()
        folder = Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"
        if state and self.args.should_save and folder.exists():
            save_file({name: value.contiguous() for name, value in state.items()}, folder / _METHOD_STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        file = Path(resume_from_checkpoint) / _METHOD_STATE
        if file.exists():
            self.method.load_state_dict(load_file(file))


def _freeze(model: nn.Module, prefixes: list[str]) -> None:
    """Switch off gradients by name prefix.

    Raises:
        RecipeError: a prefix names no parameter (a typo would otherwise train what should stay fixed).
    """
    names = dict(model.named_parameters())
    for prefix in prefixes:
        matches = [parameter for name, parameter in names.items() if name.startswith(prefix)]
        if not matches:
            tops = sorted({name.split(".")[0] for name in names})
            raise RecipeError(f"freeze: no parameter starts with {prefix!r}; the model's parts are {tops}.")
        for parameter in matches:
            parameter.requires_grad_(False)
