"""`vlkd scenes` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub.cli import main


def test_it_writes_every_split(tmp_path: Path) -> None:
    """The line that the quickstart types, with smaller numbers."""
    line = "--train 3 --validation 1 --test 2 --compositional 2 --size 64 --seed 4 --workers 1".split()
    for _ in range(2):  # the second run finds everything there
        with pytest.raises(SystemExit) as done:
            main(["scenes", str(tmp_path / "data"), *line])
        assert done.value.code == 0
    counts = {"train": 3, "validation": 1, "test": 2, "test_compositional": 2}
    for split, count in counts.items():
        lines = (tmp_path / "data" / split / "metadata.jsonl").read_text().splitlines()
        assert len(lines) == count and len(json.loads(lines[0])["captions"]) == 5


def test_an_impossible_size_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, exit code 2, and the limit is named."""
    with pytest.raises(SystemExit) as done:
        main(["scenes", str(tmp_path), "--size", "4000"])
    assert done.value.code == 2
    assert "32 to 1024 pixels; got 4000" in " ".join(capsys.readouterr().err.split())
