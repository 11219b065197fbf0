"""The Hugging Face Trainer, with a method in place of the model's own loss."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.optim import Lamb
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import Sampler
from transformers import TrainingArguments

from vlkd_hub.errors import RecipeError, TrainingError

from .chunked import chunked_backward
from .methods import Method
from .processes import leave_at_exit
from .resume import ResumableTrainer
from .sampling import HomogeneousSampler
from .sharding import full_value, to_vectors

__all__ = ["DistillationArguments", "DistillationTrainer", "attention_for"]


@dataclass
class DistillationArguments(TrainingArguments):
    """``TrainingArguments`` plus what distillation needs."""

    freeze: list[str] = field(default_factory=list)
    """Prefixes of parameter names that stay as they are, for example ``vlkd.text_encoder.embeddings``."""

    rest_frozen: bool = False
    """Dropout off in the modules that ``freeze`` names. It makes a step a quarter faster; but a decoder that first
    learnt from a text side without noise was lost, in one run of two, when that side began to train."""

    max_logit_scale: float = 100.0
    """Upper bound of 1 / temperature, as CLIP clips it; without one a small data set drives it away."""

    min_logit_scale: float = 0.1
    """Lower bound of 1 / temperature: below it all candidates look alike, and the run stops with an error."""

    cached_contrastive_chunk: int = 0
    """Rows held for backward at a time while the contrast still sees the whole batch; 0 holds all of them. Costs one
    more forward pass and lets a batch of 4,096 fit a small machine."""

    checkpoint_every_s: float = 60.0
    """Seconds between the checkpoints that an interrupted run goes on from; 0 for none. They are deleted when the run
    ends. One process only; several follow ``save_strategy``."""

    lr_multipliers: dict[str, float] = field(default_factory=dict)
    """Learning-rate factor by prefix of a parameter name: freshly made layers can learn faster than pretrained ones."""

    lamb: bool = False
    """LAMB in the place of ``optim`` (timm's), with the same betas, eps and weight decay; biases and norms, which have
    no decay, keep the plain step. Gradients are clipped by ``max_grad_norm`` alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_logit_scale <= 1.0:
            raise RecipeError(f"max_logit_scale is 1 / temperature and must exceed 1, got {self.max_logit_scale}.")
        if self.cached_contrastive_chunk < 0:
            raise RecipeError(f"cached_contrastive_chunk is a number of rows, got {self.cached_contrastive_chunk}.")


class DistillationTrainer(ResumableTrainer):
    """Runs the student, hands its outputs to the method, sums and logs the parts of the loss by name.

    Args:
        method: which tensors go to which loss; its state is saved with every checkpoint.
        teacher: adds its outputs to each batch; ``None`` where they come cached in the batch.
        args: :class:`DistillationArguments`.
        **kwargs: everything else that ``transformers.Trainer`` takes.
    """

    def __init__(
        self, *, method: Method, args: DistillationArguments, teacher: nn.Module | None = None, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        _freeze(model, args.freeze)
        args.remove_unused_columns = False
        args.label_names = []
        super().__init__(args=args, **kwargs)
        leave_at_exit()
        if self.is_fsdp_enabled:
            to_vectors(model)
        self.method = method.to(args.device)
        self.teacher = None if teacher is None else teacher.to(args.device)
        self.model_accepts_loss_kwargs = False  # parts are batch means: the Trainer divides by accumulation steps

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Forward the student once and return the sum of the method's parts.

        Raises:
            TrainingError: a part is NaN or infinite; its name and value are in the message.
        """
        inputs = self._completed(model, inputs)
        with attention_for(self.args.device):
            outputs = model(**self.method.wanted(inputs), **self.method.student_options)
        parts = self.method(outputs, inputs)
        self._note(parts)
        loss = torch.stack(list(parts.values())).sum()
        return (loss, outputs) if return_outputs else loss

    def _completed(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        """A batch with what the teacher and the method add to it; frozen parts rest where that is asked for."""
        if self.teacher is not None:
            inputs |= self.teacher(inputs)
        whole = self.accelerator.unwrap_model(model)
        if self.args.rest_frozen:
            _rest_frozen(whole, self.args.freeze)
        return self.method.prepare(whole, inputs)

    def _note(self, parts: dict[str, torch.Tensor]) -> None:
        """Check the parts of a batch and add them to what the next log shows."""
        for name, value in parts.items():
            if not torch.isfinite(value):
                raise TrainingError(
                    f"The loss part {name!r} became {value.item()} at step {self.state.global_step}. "
                    "Lower the learning rate, check the teacher's outputs, or train in fp32 (bf16: false)."
                )
            self._parts[name] += float(value.detach())
            self._counts[name] += 1

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """One batch; the temperature is clipped before it, as CLIP does."""
        self._clip_temperature()
        if self.args.cached_contrastive_chunk:
            return self._chunked_step(model, inputs)
        return super().training_step(model, inputs, *args, **kwargs)

    def _chunked_step(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """One batch whose contrast is whole and whose backward pass is not."""
        self._note_batch(inputs)
        model.train()
        inputs = self._completed(model, self._prepare_inputs(inputs))
        scale = 1.0 / self.current_gradient_accumulation_steps
        with self.compute_loss_context_manager(), attention_for(self.args.device):
            if not self.is_fsdp_enabled:  # whose parts run only inside the whole
                whole = self.accelerator.unwrap_model(model)
                inputs = self.method.precompute(whole, inputs, self.args.cached_contrastive_chunk)
            parts = chunked_backward(
                model,
                self.method,
                inputs,
                self.args.cached_contrastive_chunk,
                backward=self.accelerator.backward,
                scale=scale,
                no_sync=functools.partial(self.accelerator.no_sync, model=model),
            )
        self._note(parts)
        return torch.stack(list(parts.values())).sum() * scale

    def _clip_temperature(self) -> None:
        """Keep 1 / temperature below its bound.

        Raises:
            TrainingError: the temperature is no number, or so high that the contrast teaches nothing.
        """
        scale = self._logit_scale()
        if scale is None:
            return
        with torch.no_grad():
            value = full_value(scale.clamp_(max=float(torch.tensor(self.args.max_logit_scale).log())).min())
        if not value >= math.log(self.args.min_logit_scale):  # NaN too
            raise TrainingError(
                f"The temperature rose to {math.exp(-value):.3g} at step {self.state.global_step}: every "
                "candidate now looks alike and the contrast teaches nothing. Lower the learning rate, or hold the "
                "temperature with `freeze: [vlkd.logit_scale]` (a student) or `freeze: [logit_scale]` (a teacher)."
            )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each part since the last log, over all processes, and the temperature."""
        if "loss" in logs and self._parts:
            logs |= {f"loss/{name}": value for name, value in self._mean_parts().items()}
            scale = self._logit_scale()
            if scale is not None and scale.requires_grad:
                logs["temperature"] = full_value((-scale.detach()).exp().max())  # the highest, of several layers
            self._parts.clear()
            self._counts.clear()
        super().log(logs, *args, **kwargs)

    def _mean_parts(self) -> dict[str, float]:
        """Batches of one task lack the other tasks' parts, so each part has its own count."""
        names = sorted(self._parts) if self.args.world_size > 1 else list(self._parts)
        table = torch.tensor([[self._parts[name], self._counts[name]] for name in names], dtype=torch.float64)
        if self.args.world_size > 1:
            table = self.accelerator.reduce(table.to(self.args.device), "sum").cpu()
        return {name: total / count for name, (total, count) in zip(names, table.tolist(), strict=True)}

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
        """AdamW or LAMB, with one group per learning-rate factor and weight decay."""
        if self.optimizer is None and (self.args.lr_multipliers or self.args.lamb):
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    decay = self.args.weight_decay if name in decayed else 0.0
                    groups[self._multiplier(name), decay].append(parameter)
            kind, options = self._optimizer_kind()
            self.optimizer = kind(
                [
                    {"params": parameters, "lr": self.args.learning_rate * factor, "weight_decay": decay}
                    for (factor, decay), parameters in groups.items()
                ],
                lr=self.args.learning_rate,
                **options,
            )
        return super().create_optimizer(*args, **kwargs)

    def _optimizer_kind(self) -> tuple[Any, dict[str, Any]]:
        """Class and options, less the learning rate."""
        if self.args.lamb:
            betas = (self.args.adam_beta1, self.args.adam_beta2)
            return Lamb, {"betas": betas, "eps": self.args.adam_epsilon, "max_grad_norm": None}
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        options.pop("lr", None)
        return kind, options

    def _multiplier(self, name: str) -> float:
        matches = [prefix for prefix in self.args.lr_multipliers if name.startswith(prefix)]
        return self.args.lr_multipliers[max(matches, key=len)] if matches else 1.0


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


def _rest_frozen(model: nn.Module, prefixes: list[str]) -> None:
    """Put frozen modules in eval mode."""
    modules = dict(model.named_modules())
    for prefix in prefixes:
        if prefix in modules:
            modules[prefix].eval()


def attention_for(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU plain matrix products: the fused kernel's backward pass is slow for the few queries of an answer."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
