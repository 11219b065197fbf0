from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.xsum import load_xsum

datasets = pytest.importorskip("datasets", reason="datasets is not installed (extra: train)")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's cache stays in the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, *pairs: tuple[str, str]) -> Path:
    """A folder with a training split of documents and summaries."""
    folder.mkdir()
    rows = [{"document": document, "summary": summary, "id": str(row)} for row, (document, summary) in enumerate(pairs)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_documents_and_summaries(tmp_path: Path) -> None:
    """The two columns stay; an article without words is left out."""
    folder = write(tmp_path / "set", ("A long story.", "Short."), (" \n", "Of nothing."), ("Another.", "One more."))
    rows = load_xsum(folder, "train")
    assert rows.column_names == ["document", "summary"]
    assert rows["summary"][:] == ["Short.", "One more."]
    assert len(load_xsum(folder, "train", limit=1)) == 1


def test_errors_say_what_there_is(tmp_path: Path) -> None:
    """Nothing to summarise, no such split, no such column."""
    empty = write(tmp_path / "empty", ("", "Of nothing."))
    with pytest.raises(DataError, match="every document or its summary is empty"):
        load_xsum(empty, "train")
    with pytest.raises(DataError, match="no file of the split 'test'.* splits: train"):
        load_xsum(empty, "test")
    (empty / "test.jsonl").write_text('{"article": "a", "summary": "b"}')
    with pytest.raises(DataError, match="no column document; its columns are article, summary"):
        load_xsum(empty, "test")
