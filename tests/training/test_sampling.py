"""Batches of one group each."""

from __future__ import annotations

import pytest
import torch

from vlkd_training.sampling import HomogeneousSampler

GROUPS = [0] * 11 + [1] * 7


def batches(sampler: HomogeneousSampler, size: int) -> list[list[int]]:
    rows = list(sampler)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def test_every_batch_holds_one_group_and_no_row_twice() -> None:
    sampler = HomogeneousSampler(GROUPS, 3)
    found = batches(sampler, 3)
    assert all(len({GROUPS[row] for row in batch}) == 1 for batch in found)
    rows = [row for batch in found for row in batch]
    assert len(rows) == len(set(rows)) == len(sampler) == 9 + 6


def test_batches_of_both_groups_are_mixed() -> None:
    """All captions first and all answers last would end training on answers alone."""
    order = [[1] * 20 + [0] * 20, [0] * 20 + [1] * 20]
    sampler = HomogeneousSampler([0] * 40 + [1] * 40, 2)
    kinds = [0 if batch[0] < 40 else 1 for batch in batches(sampler, 2)]
    assert kinds not in order


def test_the_order_follows_seed_and_epoch() -> None:
    """A resumed run starts inside an epoch and must see the rows that the unbroken one would."""
    sampler = HomogeneousSampler(GROUPS, 3, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    torch.rand(3)
    assert list(sampler) == first
    assert list(HomogeneousSampler(GROUPS, 3, seed=2)) != first


def test_refuses_groups_that_fill_no_batch() -> None:
    with pytest.raises(ValueError, match="No group of rows fills a batch of 12"):
        HomogeneousSampler(GROUPS, 12)
