"""Indexes and their shards, and replicas that call each other without Ray."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlkd_serving.index import Budget, IndexWriter, Item
from vlkd_serving.index.reshape import split

SPACE = "5c" * 32


class LocalHandle:
    """A deployment handle for an object of this process: arguments and answers are pickled, as between processes."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, name: str) -> Any:
        return LocalMethod(getattr(self._replica, name))


class LocalMethod:
    """One method of it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *args: Any) -> Any:
        async def run() -> Any:
            return pickle.loads(pickle.dumps(await self._method(*pickle.loads(pickle.dumps(args)))))

        return asyncio.create_task(run())


@pytest.fixture(scope="session")
def local_handle() -> Callable[[Any], Any]:
    """``local_handle(replica)``."""
    return LocalHandle


@pytest.fixture(scope="session")
def random_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 items in Flat fp32, every fifth the copy of the one before it, so that scores are equal."""
    rows = np.random.default_rng(5).standard_normal((1500, 24)).astype(np.float32)
    rows[5::5] = rows[4:-1:5]
    folder = tmp_path_factory.mktemp("scale") / "index"
    items = [Item(id=f"item-{n:04d}", metadata={"class": f"c{n % 7}"}) for n in range(len(rows))]
    with IndexWriter(folder, SPACE) as writer:
        writer.build(items, rows, None, budget=Budget(recall=1))
    return folder


@pytest.fixture(scope="session")
def random_shards(random_index: Path) -> list[Path]:
    """The same items in three shards."""
    targets = [random_index.with_name(f"shard-{n}") for n in range(3)]
    split(random_index, targets)
    return targets
