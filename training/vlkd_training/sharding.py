"""What a student needs before and after its parameters are sharded over processes (FSDP)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.distributed.tensor import DTensor

__all__ = ["full_value", "to_scalars", "to_vectors", "unshard"]


def to_vectors(model: nn.Module) -> None:
    """Turn scalar parameters (the temperature) into vectors of one, since FSDP shards along the first axis."""
    _reshape(model, lambda value: value.dim() == 0, (1,))


def to_scalars(model: nn.Module, names: set[str]) -> None:
    """Undo :func:`to_vectors` for the parameters of these names."""
    wanted = {id(value) for name, value in model.named_parameters() if name in names}
    _reshape(model, lambda value: id(value) in wanted, ())


def unshard(model: nn.Module) -> None:
    """Give every process the whole parameters again, ties kept, so that the model can be saved as any other."""
    whole: dict[torch.Tensor, nn.Parameter] = {}  # tensors hash by identity
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if isinstance(value, DTensor):
                if value not in whole:
                    whole[value] = nn.Parameter(value.full_tensor().detach(), requires_grad=value.requires_grad)
                module._parameters[name] = whole[value]


def full_value(value: torch.Tensor) -> float:
    """The number in a tensor of one element, sharded or not."""
    return float(value.full_tensor() if isinstance(value, DTensor) else value)


def _reshape(model: nn.Module, wanted: Callable[[torch.Tensor], bool], shape: tuple[int, ...]) -> None:
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None and wanted(value):
                module._parameters[name] = nn.Parameter(value.detach().reshape(shape), value.requires_grad)
