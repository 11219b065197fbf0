"""The matching loss against equations (66) and (67), written again with the math module."""

from __future__ import annotations

import math

import pytest
import torch

from vlkd_training.losses import ImageTextMatchingLoss, matching_accuracy

LABELS = torch.tensor([1, 1, 0, 0, 0, 0])


def logits(seed: int) -> torch.Tensor:
    return 2 * torch.randn(6, 2, generator=torch.Generator().manual_seed(seed))


def cross_entropy(values: torch.Tensor) -> float:
    """- sum_i y_i log(exp(h_i) / sum_j exp(h_j)), averaged over the pairs."""
    total = 0.0
    for (no, yes), label in zip(values.tolist(), LABELS.tolist(), strict=True):
        total -= (yes if label else no) - math.log(math.exp(no) + math.exp(yes))
    return total / 6


def test_is_the_mean_of_both_heads() -> None:
    first, second = logits(0), logits(1)
    expected = 0.5 * cross_entropy(first) + 0.5 * cross_entropy(second)
    assert ImageTextMatchingLoss()(first, second, LABELS).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        ImageTextMatchingLoss()(second, first, LABELS), ImageTextMatchingLoss()(first, second, LABELS)
    )


def test_closed_forms() -> None:
    """Equal logits cost log 2; the best constant answer costs the entropy of one third, where the thesis stays."""
    assert ImageTextMatchingLoss()(torch.zeros(6, 2), torch.zeros(6, 2), LABELS).item() == pytest.approx(math.log(2))
    constant = torch.tensor([[math.log(2.0), 0.0]]).expand(6, 2)
    entropy = -(math.log(1 / 3) + 2 * math.log(2 / 3)) / 3
    assert ImageTextMatchingLoss()(constant, constant, LABELS).item() == pytest.approx(entropy, rel=1e-5)
    assert entropy == pytest.approx(0.6365, abs=1e-4)


def test_the_second_logit_means_a_match() -> None:
    """h_1 is "matches": heads trained the other way round would pass every other test here."""
    right = torch.nn.functional.one_hot(LABELS, 2).float() * 20
    assert ImageTextMatchingLoss()(right, right, LABELS).item() == pytest.approx(0, abs=1e-6)
    assert matching_accuracy(right, LABELS).item() == 1
    assert matching_accuracy(-right, LABELS).item() == 0


def test_gradient_reaches_both_heads() -> None:
    """d/dh = (softmax - y) / (2 * 3B) for each head."""
    first, second = logits(2).requires_grad_(), logits(3).requires_grad_()
    ImageTextMatchingLoss()(first, second, LABELS).backward()
    for head in (first, second):
        expected = (head.detach().softmax(-1) - torch.nn.functional.one_hot(LABELS, 2)) / 12
        torch.testing.assert_close(head.grad, expected)


def test_always_no_is_right_in_two_of_three() -> None:
    """The 66.67 % of Figure 22, so that a curve that stays there is recognised."""
    always_no = torch.tensor([[1.0, 0.0]]).expand(6, 2)
    assert matching_accuracy(always_no, LABELS).item() == pytest.approx(2 / 3)
    mixed = always_no.clone()
    mixed[0] = torch.tensor([0.0, 1.0])
    assert matching_accuracy(mixed, LABELS).item() == pytest.approx(5 / 6)


@pytest.mark.parametrize("label", [0, 1])
def test_refuses_labels_that_are_all_alike(label: int) -> None:
    """Without negatives, or without pairs, a head learns to say one word."""
    with pytest.raises(ValueError, match=f"All 6 labels are {label}"):
        ImageTextMatchingLoss()(logits(0), logits(1), torch.full((6,), label))


def test_refuses_labels_that_torch_would_skip() -> None:
    """-100 is left out of a cross-entropy without a word, and float labels are probabilities."""
    with pytest.raises(ValueError, match="must be integers, 0 or 1; got torch.int64"):
        ImageTextMatchingLoss()(logits(0), logits(1), torch.tensor([1, 1, 0, 0, -100, 0]))
    with pytest.raises(ValueError, match="got torch.float32"):
        matching_accuracy(logits(0), LABELS.float())


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"first head have shape \(6, 2\) and the second's \(3, 2\)"):
        ImageTextMatchingLoss()(logits(0), logits(1)[:3], LABELS)
    with pytest.raises(ValueError, match=r"Logits have shape \(6, 2\) and labels \(1,\)"):
        ImageTextMatchingLoss()(logits(0), logits(1), LABELS[:1])
    with pytest.raises(ValueError, match=r"Logits have shape \(6, 2\) and labels \(6, 1\)"):
        matching_accuracy(logits(0), LABELS.unsqueeze(1))
