from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.glue import GLUE_TASKS, glue_task, load_glue

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra: train)")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's cache stays in the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def example(task: str, label: Any, row: int = 0) -> dict[str, Any]:
    """One row with the columns of the task's files."""
    known = GLUE_TASKS[task]
    texts = {known.text: f"first text {row}"} | ({} if known.text_pair is None else {known.text_pair: f"second {row}"})
    return texts | {"label": label, "idx": row}


def write(folder: Path, split: str, rows: list[dict[str, Any]], ending: str = "jsonl") -> Path:
    """Write rows as a file of the given kind."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.{ending}"
    if ending == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif ending == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if ending == "jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
    return folder


@pytest.mark.parametrize("task", sorted(GLUE_TASKS))
def test_columns_of_every_task(tmp_path: Path, task: str) -> None:
    """Whatever a task calls its columns, they come out as text, text_pair and label."""
    known = GLUE_TASKS[task]
    last = known.num_labels - 1 if known.labels else 3.8
    rows = load_glue(write(tmp_path / "set" / task, "train", [example(task, 0), example(task, last, 1)]), task, "train")
    assert rows.column_names == ["text", "text_pair", "label"]
    assert rows[1]["text"] == "first text 1"
    assert rows[1]["text_pair"] == (None if known.text_pair is None else "second 1")
    assert rows[1]["label"] == pytest.approx(last)
    assert rows.features["label"].dtype == ("int64" if known.labels else "float32")


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_kinds_of_files(tmp_path: Path, ending: str) -> None:
    """The folder of a task, or the folder above it; json, csv or parquet."""
    write(tmp_path / "set" / "rte", "train", [example("rte", row % 2, row) for row in range(5)], ending)
    for folder in (tmp_path / "set", tmp_path / "set" / "rte"):
        rows = load_glue(str(folder), "rte", "train", limit=3)
        assert rows["label"][:] == [0, 1, 0] and rows["text_pair"][2] == "second 2"


def test_splits_are_not_mixed(tmp_path: Path) -> None:
    """MNLI's two validation splits stay apart; parts of a split are joined."""
    folder = write(tmp_path / "mnli", "validation_matched", [example("mnli", 0)])
    write(folder, "validation_mismatched", [example("mnli", 2)])
    for part in ("00000", "00001"):
        write(folder, f"train-{part}-of-00002", [example("mnli", 1)])
    for split in GLUE_TASKS["mnli"].evaluation_splits:
        assert len(load_glue(folder, "mnli", split)) == 1
    assert len(load_glue(folder, "mnli", "train")) == 2
    with pytest.raises(DataError, match="two validation splits: validation_matched and validation_mismatched"):
        load_glue(folder, "mnli", "validation")


def test_names_of_labels_count(tmp_path: Path) -> None:
    """A file may name its labels."""
    folder = write(tmp_path / "mnli", "train", [example("mnli", name) for name in ("contradiction", "entailment")])
    assert load_glue(folder, "mnli", "train")["label"][:] == [2, 0]


def test_unlabelled_and_wrong_labels(tmp_path: Path) -> None:
    """A test split without labels is not trained or scored on; a stray label is told with its count."""
    folder = write(tmp_path / "rte", "test", [example("rte", -1), example("rte", -1, 1)])
    with pytest.raises(DataError, match=r"no labels \(-1 in every row\)"):
        load_glue(folder, "rte", "test")
    write(folder, "train", [example("rte", 0), example("rte", 2), example("rte", 2)])
    with pytest.raises(DataError, match=r"0 \(entailment\), 1 \(not_entailment\); got '2' in 2 rows"):
        load_glue(folder, "rte", "train")
    stsb = write(tmp_path / "stsb", "train", [example("stsb", 5.0), example("stsb", 5.1)])
    with pytest.raises(DataError, match="scores from 0 to 5; got '5.1' in 1 rows"):
        load_glue(stsb, "stsb", "train")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Task, split, column, folder, text: each error says what there is."""
    folder = write(tmp_path / "cola", "train", [{"text": "a", "label": 1}])
    with pytest.raises(DataError, match="no column sentence; its columns are text, label"):
        load_glue(folder, "cola", "train")
    with pytest.raises(DataError, match="no file of the split 'dev'.* splits: train"):
        load_glue(folder, "cola", "dev")
    with pytest.raises(DataError, match="no task 'snli'; tasks: cola"):
        load_glue(folder, "snli", "train")
    with pytest.raises(DataError, match="WNLI is left out, as in the paper"):
        glue_task("wnli")
    with pytest.raises(DataError, match="is not there. Expected a folder"):
        load_glue(tmp_path / "gone", "cola", "train")
    with pytest.raises(DataError, match="limit must be at least 1, got 0"):
        load_glue(folder, "cola", "train", limit=0)
    write(tmp_path / "sst2", "train", [example("sst2", 1), example("sst2", 1) | {"sentence": None}])
    with pytest.raises(DataError, match="row 1: 'text' must be text, got None"):
        load_glue(tmp_path / "sst2", "sst2", "train")
    write(folder, "train", [example("cola", 1)], "csv")
    with pytest.raises(DataError, match="twice: train.csv, train.jsonl. Keep one"):
        load_glue(folder, "cola", "train")
