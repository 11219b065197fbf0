"""A report is there whole or as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub.reports import write_report


def test_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "report.json"
    write_report(path, {"words": "größer", "n": 1.5})
    assert json.loads(path.read_text(encoding="utf-8")) == {"words": "größer", "n": 1.5}
    assert [item.name for item in path.parent.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, {"n": 1})
    with pytest.raises(TypeError):
        write_report(path, {"n": object()})
    assert json.loads(path.read_text()) == {"n": 1}


def test_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(None, {"n": 1})
    assert list(tmp_path.iterdir()) == []
