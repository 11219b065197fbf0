"""The verb itself, with steps that write what the real ones write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlkd_hub import cli
from vlkd_hub.errors import DataError
from vlkd_hub.quickstart import answers as answers_module
from vlkd_hub.quickstart import command
from vlkd_hub.quickstart.answers import Answers
from vlkd_hub.quickstart.plan import Step, plan
from vlkd_hub.quickstart.runner import Runner

ANSWERS = Answers(
    picture="x.png", caption="a red circle", reference="one [red] circle", question="what?", answer="red", truth="blue"
)
REPORTS = {
    "student": {"splits": {"test": {"caption": {"cider": 1.75, "cider_shuffled": 0.3}}}},
    "search": {"results": [{"id": "3.png", "score": 0.4}]},
}


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """Replace children and the student; gives the names of the steps that ran."""
    names: list[str] = []

    def child(self: Runner, step: Step, extra: tuple[str, ...]) -> int:
        names.append(step.name)
        for path in step.outputs:
            path.write_text(json.dumps(REPORTS.get(path.stem, {}))) if path.suffix else path.mkdir()
        return 0

    monkeypatch.setattr(Runner, "_child", child)
    monkeypatch.setattr(command, "ask", lambda bundle, split: ANSWERS)
    monkeypatch.setattr(command.subprocess, "call", lambda line: pytest.fail(f"started {line}"))
    return names


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["quickstart", *args])
    return int(stopped.value.code or 0)


def test_all_steps_then_the_report(tmp_path: Path, ran: list[str], capsys) -> None:
    """Titles, answers, figures, and how to go on; nothing is left running."""
    folder = tmp_path / "work"
    figures = tmp_path / "deep" / "figures.json"
    assert run("--dir", str(folder), "--json", str(figures)) == 0
    assert ran == [step.name for step in plan(folder)]
    shown = capsys.readouterr().out
    for text in ("10/10", "one [red] circle", "1.75", "3.png", "vlkd demo --model", "vlkd serve --model"):
        assert text in shown
    facts = json.loads(figures.read_text())
    assert facts["student"] == REPORTS["student"]
    assert facts["answers"]["answer"] == "red"
    assert set(facts["seconds"]) == set(ran)
    assert facts["total_seconds"] == pytest.approx(sum(facts["seconds"].values()))


def test_again_skips_and_fresh_does_not(tmp_path: Path, ran: list[str], capsys) -> None:
    folder = tmp_path / "work"
    run("--dir", str(folder))
    count = len(ran)
    run("--dir", str(folder))
    assert len(ran) == count
    assert capsys.readouterr().out.count("already done") == count
    run("--dir", str(folder), "--fresh")
    assert len(ran) == 2 * count


def test_serve_opens_nothing_where_nobody_sits(tmp_path: Path, ran: list[str]) -> None:
    """In CI there is no terminal, and a page that waits for ever would hang the run."""
    assert run("--dir", str(tmp_path / "work"), "--serve") == 0


def test_serve_opens_the_demo_at_a_terminal(tmp_path: Path, ran: list[str], monkeypatch) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(command.subprocess, "call", lambda line: lines.append(line) or 0)
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True)
    folder = tmp_path / "work"
    assert run("--dir", str(folder), "--serve") == 0
    assert lines[0][3:] == ["demo", "--model", str(folder / "bundle"), "--index", str(folder / "index"), "--open"]


def test_the_first_usable_picture_is_asked(tmp_path: Path) -> None:
    """Pictures without questions are passed over; none at all is an error that says what to do."""
    lines = [
        {"file_name": "0.png", "captions": ["x"], "qa": []},
        {"file_name": "1.png", "captions": ["y"], "qa": [{"question": "q", "answers": ["a"], "type": "count"}]},
    ]
    path = tmp_path / "metadata.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert answers_module._first_record(tmp_path)["file_name"] == "1.png"
    path.write_text(json.dumps(lines[0]))
    with pytest.raises(DataError, match="no picture with a caption and a question.*--fresh"):
        answers_module._first_record(tmp_path)
