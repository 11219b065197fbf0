"""Training rows: which text goes with which picture, tokenised once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from vlkd_hub.errors import DataError

__all__ = ["CaptionRows", "PictureRows", "TaskRows", "TextRows"]


class CaptionRows(Dataset[int]):
    """One row a caption.

    Args:
        records: pictures with captions.

    Attributes:
        texts: every caption, in order.
        images: the picture of each row.

    Raises:
        DataError: no record has a caption.
    """

    def __init__(self, records: Any) -> None:
        self.texts: list[str] = []
        self.images: list[int] = []
        for row in range(len(records)):
            for caption in records[row].captions:
                if not caption.strip():
                    raise DataError(
                        f"Picture {records[row].id!r} has an empty caption; there is nothing to learn from it. "
                        "Delete the caption or the picture."
                    )
                self.texts.append(caption)
                self.images.append(row)
        if not self.texts:
            raise DataError("No record has a caption; distillation needs pictures with captions.")

    def subset(self, count: int, seed: int) -> CaptionRows:
        """Return ``count`` rows drawn at random, or all where there are fewer."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        smaller = copy.copy(self)
        smaller.texts = [self.texts[row] for row in chosen]
        smaller.images = [self.images[row] for row in chosen]
        return smaller

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> int:
        return row


class PictureRows(Dataset[int]):
    """One row a picture that has captions.

    Args:
        records: pictures with captions.

    Attributes:
        images: the picture of each row.

    Raises:
        DataError: no record has a caption.
    """

    def __init__(self, records: Any) -> None:
        self.images = [row for row in range(len(records)) if records[row].captions]
        if not self.images:
            raise DataError("No record has a caption, and captions are what is learned here.")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> int:
        return row


class TextRows(Dataset[int]):
    """Texts, without pictures unless those are named: what a decoder is pre-trained on and its language scored on.

    Args:
        texts: one a row.
        images: the picture of each row, where there are pictures.
    """

    def __init__(self, texts: Sequence[str], images: Sequence[int] = ()) -> None:
        self.texts, self.images = list(texts), list(images)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> int:
        return row


class TaskRows(Dataset[int]):
    """Rows of several tasks: captions to write and questions to answer.

    Args:
        records: pictures with captions, questions, or both.
        processor: builds the prompts.
        tasks: how often a pass over the data visits each task's rows, for example ``{"caption": 0.5, "vqa": 1.0}``;
            a part below 1 takes that share of the rows, drawn once.
        seed: of that draw.

    Attributes:
        tasks: names of the tasks, in order.
        groups: the task's place in ``tasks``, of each row; batches hold one group.

    Raises:
        DataError: a task has no rows.
    """

    def __init__(self, records: Any, processor: Any, tasks: dict[str, float], seed: int = 0) -> None:
        self.images: list[int] = []
        self.prompts: list[str] = []
        self.targets: list[str] = []
        self.groups: list[int] = []
        self.tasks = list(tasks)
        rng = np.random.default_rng(seed)
        for group, (task, share) in enumerate(tasks.items()):
            rows = _caption_rows(records, processor) if task == "caption" else _question_rows(records, processor)
            if not rows:
                raise DataError(f"Task {task!r} has no rows: the data holds no {_NEEDS[task]}.")
            for row in _repeat(len(rows), share, rng):
                image, prompt, target = rows[row]
                self.images.append(image)
                self.prompts.append(prompt)
                self.targets.append(target)
                self.groups.append(group)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> int:
        return row


_NEEDS = {"caption": "captions", "vqa": "questions with answers"}


def _caption_rows(records: Any, processor: Any) -> list[tuple[int, str, str]]:
    prompt = processor.build_prompt("caption")
    return [(row, prompt, caption) for row in range(len(records)) for caption in records[row].captions]


def _question_rows(records: Any, processor: Any) -> list[tuple[int, str, str]]:
    return [
        (row, processor.build_prompt("vqa", item.question), ", ".join(sorted(set(item.answers))))
        for row in range(len(records))
        for item in records[row].qa
        if item.answers
    ]


def _repeat(count: int, share: float, rng: np.random.Generator) -> Sequence[int]:
    whole = list(range(count)) * int(share)
    rest = rng.permutation(count)[: round((share - int(share)) * count)]
    return [*whole, *rest.tolist()]
