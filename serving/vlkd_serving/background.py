"""What the engine does beside its requests: it follows its index, and lets idle models go."""

from __future__ import annotations

import asyncio

from vlkd_serving.index import LiveIndex
from vlkd_serving.metrics import Metrics
from vlkd_serving.model_pool import ModelPool

__all__ = ["follow_index", "show_index", "unload_idle_models"]


async def follow_index(index: LiveIndex, metrics: Metrics, every_s: float) -> None:
    """Take in what a writer of the index committed, again and again."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(index.refresh)
        show_index(index, metrics)


def show_index(index: LiveIndex, metrics: Metrics) -> None:
    """Put the state of the index into the metrics."""
    metrics.index_generation.set(index.current.manifest.generation)
    metrics.index_degraded.set(1 if index.degraded else 0)


async def unload_idle_models(models: ModelPool, idle_s: float) -> None:
    """Unload what nobody used for ``idle_s``, again and again."""
    while True:
        await asyncio.sleep(min(1.0, idle_s / 4))
        await models.unload_idle()
