"""GLUE: pairs of sentences, or single ones, with a label; the tasks of Table 5 and STS-B.

Source: 002_330011b7ef9ac362.txt, sections 4.1 and 4.5. Nine tasks, WNLI left out as the paper does. Table 5 shows seven
of the remaining eight; STS-B, a regression, is here too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkd_hub._optional import require
from vlkd_hub.errors import DataError
from vlkd_training.data.text_tables import check_texts, open_texts, pick_columns

__all__ = ["GLUE_TASKS", "GlueTask", "glue_task", "load_glue"]


@dataclass(frozen=True)
class GlueTask:
    """One task: where its texts stand and how it is scored."""

    text: str
    """Column of the first text."""

    text_pair: str | None
    """Column of the second, None where a text stands alone."""

    labels: tuple[str, ...]
    """Names of the labels 0, 1, ...; none for a regression."""

    metrics: tuple[str, ...]
    """Of ``accuracy``, ``f1`` (of label 1), ``matthews``, ``pearson``, ``spearman``; the first one chooses a model."""

    evaluation_splits: tuple[str, ...] = ("validation",)
    """The labelled splits that scores are reported on."""

    @property
    def num_labels(self) -> int:
        """Outputs of a classifier: 1 for a regression."""
        return len(self.labels) or 1


_ENTAILMENT = ("entailment", "not_entailment")
_SAME = ("accuracy", "f1")

GLUE_TASKS: dict[str, GlueTask] = {
    "cola": GlueTask("sentence", None, ("unacceptable", "acceptable"), ("matthews",)),
    "sst2": GlueTask("sentence", None, ("negative", "positive"), ("accuracy",)),
    "rte": GlueTask("sentence1", "sentence2", _ENTAILMENT, ("accuracy",)),
    "mrpc": GlueTask("sentence1", "sentence2", ("not_equivalent", "equivalent"), _SAME),
    "qqp": GlueTask("question1", "question2", ("not_duplicate", "duplicate"), _SAME),
    "mnli": GlueTask(
        "premise",
        "hypothesis",
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        ("validation_matched", "validation_mismatched"),
    ),
    "qnli": GlueTask("question", "sentence", _ENTAILMENT, ("accuracy",)),
    "stsb": GlueTask("sentence1", "sentence2", (), ("pearson", "spearman")),
}
"""The eight tasks by the names of their configurations on the hub (``nyu-mll/glue``)."""


def glue_task(name: str) -> GlueTask:
    """Return a task by name.

    Raises:
        DataError: there is no such task, or it is WNLI.
    """
    if name == "wnli":
        raise DataError(
            "WNLI is left out, as in the paper: its development set answers the training set's sentences the other "
            f"way round (gluebenchmark.com/faq). Tasks: {', '.join(GLUE_TASKS)}."
        )
    if name not in GLUE_TASKS:
        raise DataError(f"GLUE has no task {name!r}; tasks: {', '.join(GLUE_TASKS)}.")
    return GLUE_TASKS[name]


def load_glue(source: str | Path, task: str, split: str, limit: int | None = None) -> Any:
    """Open one split of a task.

    Args:
        source: an id on a hub (``nyu-mll/glue``), or a folder of json, csv or parquet files with its columns: see
            :func:`vlkd_training.data.text_tables.open_texts`.
        task: of :data:`GLUE_TASKS`.
        split: ``train``, ``validation``, for MNLI ``validation_matched`` and ``validation_mismatched``.
        limit: keep only the first rows.

    Returns:
        A ``datasets.Dataset`` with the columns ``text``, ``text_pair`` (None where a text stands alone) and ``label``:
        a number below ``num_labels``, or the score of a regression.

    Raises:
        DataError: an unknown task, a missing split or column, a cell without text, or labels that are not there: the
            test splits of GLUE hold -1 in the place of each.
    """
    datasets = require("datasets", "train")
    known = glue_task(task)
    if task == "mnli" and split == "validation":
        raise DataError(f"MNLI has two validation splits: {' and '.join(known.evaluation_splits)}; name one.")
    where = f"{source} ({task}, {split})"
    columns = {"text": known.text, "text_pair": known.text_pair, "label": "label"}
    rows = open_texts(source, split, config=task, limit=limit)
    rows = pick_columns(rows, {name: column for name, column in columns.items() if column is not None}, where)
    texts = ("text",) if known.text_pair is None else ("text", "text_pair")
    check_texts(rows, texts, where)
    labels = _labels(rows, known, where)
    value = datasets.Value("int64" if known.labels else "float32")
    features = {"text": datasets.Value("string"), "text_pair": datasets.Value("string"), "label": value}
    pairs = rows["text_pair"] if known.text_pair is not None else [None] * len(rows)
    table = {"text": rows["text"][:], "text_pair": pairs[:], "label": labels}
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


def _labels(rows: Any, task: GlueTask, where: str) -> list[float]:
    """Numbers of the labels; a name counts as its number."""
    numbers = {name: number for number, name in enumerate(task.labels)}
    found: list[Any] = [numbers.get(label, label) if isinstance(label, str) else label for label in rows["label"]]
    missing = sum(label is None or label == -1 for label in found)
    if missing == len(found):
        raise DataError(f"{where} has no labels (-1 in every row), as GLUE's test splits; use a labelled split.")
    if task.labels:
        wrong = Counter(str(label) for label in found if label not in range(len(task.labels)))
        expected = ", ".join(f"{number} ({name})" for name, number in numbers.items())
    else:
        wrong = Counter(str(label) for label in found if not isinstance(label, int | float) or not 0 <= label <= 5)
        expected = "scores from 0 to 5"
    if wrong:
        some = ", ".join(f"{label!r} in {count} rows" for label, count in wrong.most_common(3))
        raise DataError(f"{where}: labels must be {expected}; got {some}.")
    return found
