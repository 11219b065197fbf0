"""``docs/evaluation.md``: its commands are run, with a small student and three pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vlkd_hub.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
LINES = [
    line for body in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in body.splitlines()
]


def test_the_commands_run(
    tiny_student: Path,
    tiny_bundle: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As they stand, but for the number of pictures."""
    monkeypatch.setattr("vlkd_training.evaluation.tokenizer.has_java", lambda: False)
    monkeypatch.setattr("vlkd_training.evaluation.java_metrics.has_java", lambda: False)
    monkeypatch.chdir(data.parent)
    place = data.parent / ".quickstart"
    place.mkdir()
    for name, target in (("student", tiny_student), ("bundle", tiny_bundle), ("data", data)):
        (place / name).symlink_to(target)
    assert len(LINES) == 2
    for line in LINES:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line.replace("5x100", "1x3"))[1:])
        assert ended.value.code in (0, None), capsys.readouterr().err
    assert (data.parent / "scores.json").is_file() and "Average median rank" in capsys.readouterr().out
