"""The momentum encoder: a slow average of the student's weights that makes consistent candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

__all__ = ["MomentumEncoder"]

_PREFIX = "average/"


class MomentumEncoder(nn.Module):
    r"""theta_k = m theta_k + (1 - m) theta_q over the parameters that train; the rest is the model's own.

    It holds no second model: the averages are its buffers, and a forward pass runs the student with them in the place
    of its own weights. Frozen parameters and buffers (running means) are then the student's by themselves, shared and
    not copied, and the state of this module is the averages alone; they travel in the checkpoint to the bit.

    Each step: ``update`` and the call come before the student's forward pass, not after it as in MoCo and ALBEF. The
    averages are the same either way, but the activations of this pass are free again before the student's are kept
    for its backward pass, which saves memory (section 3.2.4.3.3 and Figure 26). ``Method.prepare`` is that moment.

    Dropout is off in this pass. The thesis does not say; noise in the keys is noise in the bank.

    Args:
        momentum: m, 0.995 in the thesis (0.99 to 0.999 are usual).
        model: where the averages start; left out, they start at the first ``update``.

    Raises:
        ValueError: m is not in [0, 1).

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.4.3.2 and 3.2.4.3.3, equation (70).
    """

    def __init__(self, momentum: float = 0.995, model: nn.Module | None = None) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"The momentum m must be at least 0 and below 1, got {momentum}.")
        self.momentum = momentum
        if model is not None:
            self.update(model)

    def averages(self) -> dict[str, torch.Tensor]:
        """The averaged parameters by their names in the model."""
        return {
            name.removeprefix(_PREFIX).replace("/", "."): value
            for name, value in self.named_buffers(recurse=False)
            if name.startswith(_PREFIX)
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step of equation (70); the first one copies the model.

        Raises:
            ValueError: the model has no parameter that trains, or other ones than at the start.
        """
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        averages = self.averages()
        if not trained:
            raise ValueError("No parameter of the model trains, so its momentum encoder would always be itself.")
        if not averages:
            for name, value in trained.items():
                self.register_buffer(_PREFIX + name.replace(".", "/"), value.detach().clone())
            return
        if trained.keys() != averages.keys():
            changed = sorted(trained.keys() ^ averages.keys())
            raise ValueError(
                f"The momentum encoder averages other parameters than the model trains (the first: {changed[0]}). "
                "Freeze before the first step and keep it so, or make a new momentum encoder."
            )
        for name, value in trained.items():
            averages[name].mul_(self.momentum).add_(value.detach(), alpha=1 - self.momentum)

    @torch.no_grad()
    def forward(self, model: nn.Module, **inputs: Any) -> Any:
        """Run the model with the averaged weights, dropout off, no gradient.

        Args:
            model: the student, not wrapped for distributed training.
            **inputs: of its ``forward``.

        Returns:
            What the model returns.

        Raises:
            ValueError: ``update`` was never called.
        """
        averages = self.averages()
        if not averages:
            raise ValueError("The momentum encoder has no weights yet; call update(model) first.")
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            return functional_call(model, averages, kwargs=inputs)
        finally:
            for module in training:
                module.training = True

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Make room for the averages of a checkpoint, which a new encoder does not have yet."""
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name.startswith(_PREFIX) and name not in self._buffers:
                self.register_buffer(name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
