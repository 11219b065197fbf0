"""A contrastive loss over a batch that does not fit in memory: embeddings first, gradients chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from vlkd_hub.errors import RecipeError

from .methods import Method

__all__ = ["chunked_backward", "split_batch"]

_SHARED = ("logit_scale",)
"""Outputs that belong to the model and not to a row: one temperature, or one of each layer."""


def chunked_backward(
    model: nn.Module,
    method: Method,
    batch: dict[str, Any],
    size: int,
    *,
    backward: Callable[[torch.Tensor], None],
    scale: float = 1.0,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, torch.Tensor]:
    """Accumulate the gradient of the whole batch while only ``size`` rows are held for backward.

    Three passes: (1) forward every chunk without gradient and keep what the contrast needs; (2) the contrast over the
    whole batch, with its gradient by embedding and temperature; (3) forward every chunk again from the same random
    numbers and send that gradient back, together with the parts that are means over rows. The result is the gradient
    of the undivided batch; the price is one more forward pass.

    Args:
        model: the student, wrapped or not.
        method: must name its ``contrast_outputs``.
        batch: tensors with one row an example.
        size: rows per chunk.
        backward: runs the backward pass of a scalar.
        scale: factor on the gradient, 1 / accumulation steps.
        no_sync: keeps processes from exchanging gradients before the last chunk.

    Returns:
        The parts of the loss, detached.

    Raises:
        RecipeError: the method has no contrast.

    Source: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (arXiv:2101.06983), section 3.
    """
    if not method.contrast_outputs:
        raise RecipeError(
            f"cached_contrastive_chunk is for methods with a contrastive loss, and {type(method).__name__} has none. "
            "Leave it out and use gradient_accumulation_steps."
        )
    chunks, rows = split_batch(batch, size)
    states, kept = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state())
            outputs = _forward(model, method, chunk)
            kept.append([getattr(outputs, name).detach().float() for name in method.contrast_outputs])
    end = _random_state()
    leaves = {
        name: (values[0].clone() if name in _SHARED else torch.cat(values)).requires_grad_()
        for name, values in zip(method.contrast_outputs, zip(*kept, strict=True), strict=True)
    }
    parts = method.contrast_parts(SimpleNamespace(**leaves), batch)
    found = torch.autograd.grad(torch.stack(list(parts.values())).sum(), list(leaves.values()), allow_unused=True)
    gradients = {name: value for name, value in zip(leaves, found, strict=True) if value is not None}
    totals = {name: value.detach() for name, value in parts.items()}
    start = 0
    for number, chunk in enumerate(chunks):
        last = number + 1 == len(chunks)
        _set_random_state(states[number])
        with nullcontext() if last else no_sync():
            outputs = _forward(model, method, chunk)
            count = min(size, rows - start)
            loss = _carry(outputs, gradients, slice(start, start + count), last)
            for name, value in method.row_parts(outputs, chunk).items():
                loss = loss + value * (count / rows)
                totals[name] = totals.get(name, 0.0) + value.detach() * (count / rows)
            backward(loss * scale)
        start += count
    _set_random_state(end)
    return totals


def split_batch(batch: dict[str, Any], size: int) -> tuple[list[dict[str, Any]], int]:
    """Cut every tensor with one row an example; other entries go to each chunk. Returns the chunks and the rows."""
    rows = _count(batch)

    def cut(value: Any, start: int) -> Any:
        by_row = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == rows
        return value[start : start + size] if by_row else value

    starts = range(0, rows, size)
    return [{name: cut(value, start) for name, value in batch.items()} for start in starts], rows


def _count(batch: dict[str, Any]) -> int:
    return max(len(value) for value in batch.values() if isinstance(value, torch.Tensor) and value.dim() > 0)


def _forward(model: nn.Module, method: Method, chunk: dict[str, Any]) -> Any:
    return model(**method.wanted(chunk), **method.student_options)


def _carry(outputs: Any, gradients: dict[str, torch.Tensor], at: slice, last: bool) -> torch.Tensor:
    """A scalar whose gradient is the contrast's: by embedding in each chunk, by temperature in the last."""
    terms = []
    for name, gradient in gradients.items():
        value = getattr(outputs, name)
        if name not in _SHARED:
            terms.append((value.float() * gradient[at]).sum())
        elif last:
            terms.append((value.float() * gradient).sum())
    return torch.stack(terms).sum()


def _random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
