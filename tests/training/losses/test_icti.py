"""ICTI against equation (2), written again in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vlkd_training.losses import ICTILoss

LABELS = np.array([[1, 3, 2, -100], [4, -100, -100, -100]])
LOGITS = np.random.default_rng(0).normal(size=(2, 4, 6))


def token_losses(smoothing: float = 0.0) -> list[float]:
    losses = []
    for row, label_row in zip(LOGITS, LABELS, strict=True):
        for scores, label in zip(row, label_row, strict=True):
            if label != -100:
                log_p = scores - np.log(np.exp(scores).sum())
                target = np.full(6, smoothing / 6)
                target[label] += 1 - smoothing
                losses.append(-float((target * log_p).sum()))
    return losses


def test_sums_over_tokens_and_averages_over_texts() -> None:
    """Equation (2): 1/B sum_k sum_j, not a mean over tokens."""
    found = ICTILoss()(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert found.item() == pytest.approx(sum(token_losses()) / 2, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_per_token(smoothing: float) -> None:
    """As fine-tuning uses it: the mean over labelled tokens."""
    found = ICTILoss(per_token=True, label_smoothing=smoothing)(torch.tensor(LOGITS), torch.tensor(LABELS))
    assert found.item() == pytest.approx(np.mean(token_losses(smoothing)), rel=1e-6)


def test_logits_of_the_labelled_tokens_alone() -> None:
    """The student may compute only those; the loss is the same."""
    labels = torch.tensor(LABELS)
    few = torch.tensor(LOGITS)[labels != -100]
    assert ICTILoss()(few, labels).item() == pytest.approx(ICTILoss()(torch.tensor(LOGITS), labels).item(), rel=1e-6)


def test_gradient() -> None:
    """(softmax - one hot) / B at labelled positions, exactly 0 elsewhere."""
    logits = torch.tensor(LOGITS, requires_grad=True)
    labels = torch.tensor(LABELS)
    ICTILoss()(logits, labels).backward()
    wanted = labels != -100
    expected = torch.softmax(logits.detach(), dim=-1)
    expected[wanted] -= torch.nn.functional.one_hot(labels[wanted], 6)
    expected = torch.where(wanted.unsqueeze(-1), expected / 2, 0.0)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-7)


def test_refuses_a_batch_without_targets() -> None:
    """It would divide by nothing, or train nothing."""
    with pytest.raises(ValueError, match="No labelled token in a batch of 2 texts"):
        ICTILoss()(torch.zeros(2, 3, 6), torch.full((2, 3), -100))


def test_refuses_logits_of_other_tokens() -> None:
    with pytest.raises(ValueError, match="logits for 3 tokens and labels for 4"):
        ICTILoss()(torch.zeros(3, 6), torch.tensor(LABELS))
