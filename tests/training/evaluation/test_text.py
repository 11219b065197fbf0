from __future__ import annotations

import math

import numpy as np
import pytest

from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.glue import GLUE_TASKS
from vlkd_training.evaluation.text import label_scores, rouge_scores

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: train)")
pytest.importorskip("rouge_score", reason="rouge-score is not installed (extra: train)")


def logits_of(labels: list[int], width: int = 2) -> np.ndarray:
    """Logits that say these labels."""
    return np.eye(width)[labels] * 3 - 1


def test_accuracy_f1_and_matthews_by_hand() -> None:
    """3 hits of 4 positives, 1 false alarm among 4 negatives."""
    right, said = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0]
    found = label_scores(GLUE_TASKS["mrpc"], logits_of(said), right)
    assert found == pytest.approx({"accuracy": 6 / 8, "f1": 2 * 3 / (2 * 3 + 1 + 1)})
    (matthews,) = label_scores(GLUE_TASKS["cola"], logits_of(said), right).values()
    assert matthews == pytest.approx((3 * 3 - 1 * 1) / math.sqrt(4 * 4 * 4 * 4))
    assert label_scores(GLUE_TASKS["mnli"], logits_of([2, 0], 3), [2, 1]) == {"accuracy": 0.5}


def test_f1_counts_label_one() -> None:
    """The label 'equivalent' is 1; F1 of label 0 would be another number."""
    assert label_scores(GLUE_TASKS["qqp"], logits_of([0, 0, 0]), [0, 0, 1])["f1"] == 0.0


def test_correlations() -> None:
    """Pearson is linear, Spearman of ranks; a constant answer found nothing."""
    right = [0.0, 1.0, 2.0, 5.0]
    found = label_scores(GLUE_TASKS["stsb"], np.array([[0.0], [1.0], [8.0], [27.0]]), right)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef([0, 1, 8, 27], right)[0, 1])
    assert label_scores(GLUE_TASKS["stsb"], np.zeros((4, 1)), right) == {"pearson": 0.0, "spearman": 0.0}


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"expected logits of shape \(2, 3\) for 2 labels, got \(2, 2\)"):
        label_scores(GLUE_TASKS["mnli"], logits_of([0, 1]), [0, 1])
    with pytest.raises(InvalidInputError, match="need a summary a reference; got 1 and 2"):
        rouge_scores(["a"], ["a", "b"])


def test_rouge_by_hand() -> None:
    """Words, pairs of words and the longest common subsequence, stems compared, the mean over documents."""
    found = rouge_scores(["the cat sat", "nothing"], ["the cats lay", "in common"])
    assert found == pytest.approx({"rouge1": (2 / 3) / 2, "rouge2": (1 / 2) / 2, "rougeL": (2 / 3) / 2})
