"""Scores of text tasks: GLUE's, and ROUGE (Tables 5 and 6), with scikit-learn, scipy and rouge-score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vlkd_hub._optional import require
from vlkd_hub.errors import InvalidInputError
from vlkd_training.data.glue import GlueTask

__all__ = ["label_scores", "rouge_scores"]


def label_scores(task: GlueTask, logits: np.ndarray, labels: Sequence[float]) -> dict[str, float]:
    """Score what a classifier or a regression said.

    Args:
        task: names the scores, see :class:`vlkd_training.data.glue.GlueTask`.
        logits: ``(texts, num_labels)``.
        labels: the right ones, ``(texts,)``.

    Returns:
        Name -> score: accuracy and F1 (of label 1) from 0 to 1, Matthews, Pearson and Spearman from -1 to 1. A
        correlation with predictions that are all alike is 0.

    Raises:
        InvalidInputError: logits and labels do not belong together, or hold no text.
    """
    if logits.shape != (len(labels), task.num_labels) or not len(labels):
        raise InvalidInputError(
            f"expected logits of shape ({len(labels)}, {task.num_labels}) for {len(labels)} labels, got {logits.shape}."
        )
    right = np.asarray(labels)
    said = logits.argmax(axis=-1) if task.labels else logits[:, 0]
    return {name: float(_scorer(name)(right, said)) for name in task.metrics}


def _scorer(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    if name in ("pearson", "spearman"):
        kind = getattr(require("scipy.stats", "train"), f"{name}r")
        # With a constant side both are undefined, and scipy warns; nothing was found, so 0.
        return lambda right, said: 0.0 if np.ptp(right) == 0 or np.ptp(said) == 0 else kind(right, said).statistic
    metrics = require("sklearn.metrics", "train")
    if name == "f1":
        return lambda right, said: metrics.f1_score(right, said, zero_division=0.0)
    return {"accuracy": metrics.accuracy_score, "matthews": metrics.matthews_corrcoef}[name]


def rouge_scores(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L: F1 with stemming, the mean over documents.

    The package follows ROUGE-1.5.5, which the paper's numbers come from, without its bootstrap; the second decimal may
    differ.

    Args:
        written: one summary a document.
        references: its reference.

    Returns:
        ``rouge1``, ``rouge2``, ``rougeL``, each 0 to 1.

    Raises:
        InvalidInputError: the lists differ in length, or are empty.
    """
    if len(written) != len(references) or not written:
        raise InvalidInputError(f"need a summary a reference; got {len(written)} and {len(references)}.")
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = require("rouge_score.rouge_scorer", "train").RougeScorer(names, use_stemmer=True)
    found = [scorer.score(right, said) for right, said in zip(references, written, strict=True)]
    return {name: float(np.mean([scores[name].fmeasure for scores in found])) for name in names}
