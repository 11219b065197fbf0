from __future__ import annotations

from pathlib import Path

import pytest

from vlkd_hub.errors import DataError
from vlkd_training.data.jsonl import read_json, read_jsonl


def test_blank_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    """The line number is the editor's, blank lines included."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [(where.rsplit(" ", 1)[1], fields["a"]) for where, fields in read_jsonl(path)] == [("1", 1), ("3", 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": \n', "a.jsonl, line 2: not valid JSON"),
        (b"[1]\n", "a.jsonl, line 1: expected a JSON object, got list"),
        (b'{"a": "\xff"}\n', "a.jsonl is not UTF-8"),
    ],
)
def test_broken_lines_name_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    """A data file of 30,000 lines is only mended when the line is known."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(path))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    """Both readers turn the system's errors into ours."""
    with pytest.raises(DataError, match="gone.jsonl cannot be read: No such file"):
        list(read_jsonl(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match="gone.json cannot be read: No such file"):
        read_json(tmp_path / "gone.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="a.json is not valid JSON"):
        read_json(tmp_path / "a.json")
