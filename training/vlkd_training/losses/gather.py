"""Rows of every process, with gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

__all__ = ["gather_rows", "mean_count", "rank_and_world"]


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; ``(0, 1)`` without distributed training."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of every process, this one's in its place, shape ``(world * batch, ...)``.

    A gradient into a gathered row flows back to the process it came from. Every process must hold as many rows.
    """
    _, world = rank_and_world()
    if world == 1:
        return rows
    if torch.is_grad_enabled() and rows.requires_grad:
        gathered: torch.Tensor = _Gathered.apply(rows)
        return gathered
    return _gather(rows)


class _Gathered(torch.autograd.Function):
    """Rows of every process; what comes back to a row is the sum of what every process sends it."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        ctx.count = len(rows)
        return _gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.count
        return total[start : start + ctx.count]


def _gather(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.detach().contiguous()
    found = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(found, rows)
    return torch.cat(found, dim=0)


def mean_count(count: int, device: torch.device) -> float:
    """Mean of a count over the processes.

    Gradients are averaged over processes; a sum divided by this mean is, after that, the sum over all processes
    divided by the count of all.
    """
    _, world = rank_and_world()
    if world == 1:
        return count
    total = torch.tensor(float(count), device=device)
    dist.all_reduce(total)
    return float(total) / world
