"""Which text goes with which picture."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.rows import CaptionRows, TaskRows


def record(captions=(), qa=()):
    questions = tuple(SimpleNamespace(question=question, answers=answers) for question, answers in qa)
    return SimpleNamespace(captions=tuple(captions), qa=questions)


class Prompts:
    """Stands in for a processor."""

    def build_prompt(self, task: str, question: str | None = None) -> str:
        return f"{task}|{question}"


RECORDS = [
    record(["a", "b"], [("what?", ("red",)), ("who?", ())]),
    record([], [("which?", ("two", "one", "two"))]),
    record(["c"]),
]


def test_caption_rows() -> None:
    rows = CaptionRows(RECORDS)
    assert (rows.texts, rows.images, len(rows), rows[2]) == (["a", "b", "c"], [0, 0, 2], 3, 2)


def test_caption_rows_refuse_data_without_captions() -> None:
    with pytest.raises(DataError, match="No record has a caption"):
        CaptionRows([record(), record()])


def test_task_rows() -> None:
    """Questions without an answer are left out; several answers become one target, each once."""
    rows = TaskRows(RECORDS, Prompts(), {"caption": 1.0, "vqa": 1.0})
    assert rows.prompts == ["caption|None"] * 3 + ["vqa|what?", "vqa|which?"]
    assert rows.targets == ["a", "b", "c", "red", "one, two"]
    assert rows.images == [0, 0, 2, 0, 1]
    assert rows.groups == [0, 0, 0, 1, 1]
    assert len(rows) == 5


def test_shares() -> None:
    """0.5 takes half of the rows, 2.5 every row twice and half of them once more; the draw follows the seed."""
    many = [record([f"caption {number}"]) for number in range(20)]
    half = TaskRows(many, Prompts(), {"caption": 0.5}, seed=1)
    assert len(half) == len(set(half.targets)) == 10
    assert half.targets == TaskRows(many, Prompts(), {"caption": 0.5}, seed=1).targets
    assert half.targets != TaskRows(many, Prompts(), {"caption": 0.5}, seed=2).targets
    more = TaskRows(many, Prompts(), {"caption": 2.5})
    assert len(more) == 50
    assert {more.targets.count(text) for text in set(more.targets)} == {2, 3}


@pytest.mark.parametrize(("task", "need"), [("caption", "captions"), ("vqa", "questions with answers")])
def test_a_task_without_rows(task: str, need: str) -> None:
    with pytest.raises(DataError, match=f"Task '{task}' has no rows: the data holds no {need}"):
        TaskRows([record()], Prompts(), {task: 1.0})
