"""The ranking loss of SHRe against its double sum, written again as loops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from vlkd_training.losses import RankingLoss, ranking


def vectors(seed: int, rows: int = 6, dim: int = 4) -> torch.Tensor:
    return 3 * torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(first @ second) / (math.sqrt(float(first @ first)) * math.sqrt(float(second @ second)))


def double_sum(images: torch.Tensor, texts: torch.Tensor, margin: float, ids: list[int]) -> tuple[float, int]:
    """Equation (32), and how many (i, j) it holds."""
    total, count = 0.0, 0
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            if ids[i] != ids[j]:
                total += max(0.0, margin - cosine(image, texts[i]) + cosine(image, text))
                count += 1
    return total, count


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_is_the_double_sum(margin: float) -> None:
    """Not divided by the batch; the mean is that sum over the number of its terms."""
    images, texts = vectors(0), vectors(1)
    total, count = double_sum(images, texts, margin, list(range(6)))
    assert RankingLoss(margin)(images, texts).item() == pytest.approx(total, rel=1e-5)
    assert count == 30
    assert RankingLoss(margin, reduction="mean")(images, texts).item() == pytest.approx(total / 30, rel=1e-5)


def test_pictures_are_the_anchors() -> None:
    """(32) goes one way only; the other way has other negatives, and the symmetric option is the mean of both."""
    images, texts = vectors(2), vectors(3)
    forth, back = RankingLoss()(images, texts), RankingLoss()(texts, images)
    assert forth.item() != pytest.approx(back.item(), rel=1e-3)
    torch.testing.assert_close(RankingLoss(symmetric=True)(images, texts), (forth + back) / 2)
    torch.testing.assert_close(RankingLoss(symmetric=True)(texts, images), (forth + back) / 2)


def test_its_ends() -> None:
    """Orthogonal pairs beat each other by 1 and cost nothing; equal vectors cost the margin for every (i, j)."""
    assert RankingLoss(0.2)(torch.eye(4), torch.eye(4)).item() == 0
    assert RankingLoss(0.2)(torch.ones(4, 3), torch.ones(4, 3)).item() == pytest.approx(0.2 * 12, rel=1e-5)


def test_order_and_length_do_not_matter() -> None:
    images, texts = vectors(4), vectors(5)
    plain, order = RankingLoss()(images, texts), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(RankingLoss()(images[order], texts[order]), plain)
    torch.testing.assert_close(RankingLoss()(images * 7, texts / 3), plain)


def test_another_caption_of_the_same_picture_is_no_negative() -> None:
    images, texts, ids = vectors(6), vectors(7), [7, 7, 1, 2, 2, 4]
    total, count = double_sum(images, texts, 0.2, ids)
    found = RankingLoss()(images, texts, torch.tensor(ids))
    assert found.item() == pytest.approx(total, rel=1e-5)
    mean = RankingLoss(reduction="mean")(images, texts, torch.tensor(ids))
    assert mean.item() == pytest.approx(total / count, rel=1e-5)


def test_a_batch_of_one_picture_is_zero_and_not_nan() -> None:
    images = vectors(8).requires_grad_()
    found = RankingLoss(reduction="mean")(images, vectors(9), torch.zeros(6, dtype=torch.long))
    found.backward()
    assert found.item() == 0
    assert (images.grad == 0).all()


def test_gradient_moves_a_pair_that_loses() -> None:
    """A step against the gradient lowers the loss, and both sides get one."""
    images, texts = vectors(10).requires_grad_(), vectors(11).requires_grad_()
    loss = RankingLoss()(images, texts)
    loss.backward()
    assert images.grad.abs().sum() > 0
    assert texts.grad.abs().sum() > 0
    with torch.no_grad():
        assert RankingLoss()(images - 0.01 * images.grad, texts - 0.01 * texts.grad) < loss


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_processes_together_are_the_whole_batch(reduction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over processes, which is what their gradients get, is the loss of one process with all rows."""
    images, texts, ids = vectors(12), vectors(13), torch.tensor([0, 1, 1, 1, 2, 3])
    loss = RankingLoss(reduction=reduction, symmetric=True)
    whole = loss(images, texts, ids)
    counts = [int((ids[rows].unsqueeze(1) != ids).sum()) for rows in (slice(0, 3), slice(3, 6))]
    assert counts[0] != counts[1]
    everyone = [ids, *(torch.nn.functional.normalize(side.float(), dim=1) for side in (texts, images))]
    parts = []
    for rank in (0, 1):
        mine, asked = slice(3 * rank, 3 * rank + 3), iter(everyone)

        def gather(rows: torch.Tensor, mine: slice = mine, asked: Iterator[torch.Tensor] = asked) -> torch.Tensor:
            whole = next(asked)
            torch.testing.assert_close(rows, whole[mine])
            return whole

        monkeypatch.setattr(ranking, "rank_and_world", lambda rank=rank: (rank, 2))
        monkeypatch.setattr(ranking, "mean_count", lambda count, device: sum(counts) / 2)
        monkeypatch.setattr(ranking, "gather_rows", gather)
        parts.append(loss(images[mine], texts[mine], ids[mine]))
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_refuses_what_would_go_wrong_silently() -> None:
    with pytest.raises(ValueError, match="margin must be above 0, got 0"):
        RankingLoss(0)
    with pytest.raises(ValueError, match="'sum' or 'mean', got 'none'"):
        RankingLoss(reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Pictures have shape \(4, 3\) and texts \(1, 3\)"):
        RankingLoss()(torch.ones(4, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"image_ids have shape \(1,\)"):
        RankingLoss()(torch.ones(4, 3), torch.ones(4, 3), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="at least 2 pairs"):
        RankingLoss()(torch.ones(1, 3), torch.ones(1, 3))
