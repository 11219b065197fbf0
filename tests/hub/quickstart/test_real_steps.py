"""The end of the quickstart for real: a bundle is indexed, searched and asked, with nothing replaced."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from vlkd_hub.quickstart import report
from vlkd_hub.quickstart.answers import ask
from vlkd_hub.quickstart.plan import QUERY, plan
from vlkd_hub.quickstart.runner import Runner

COLORS = ("red", "blue", "green")


@pytest.fixture
def folder(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A work folder as the steps before leave it: pictures and a bundle."""
    work = tmp_path / "work"
    Runner(work, Console(quiet=True))
    (work / "bundle").symlink_to(tiny_bundle)
    split = work / "data" / "test"
    split.mkdir(parents=True)
    lines = []
    for number, color in enumerate(COLORS):
        name = f"{number}.png"
        Image.new("RGB", (40, 30), color).save(split / name)
        asked = [
            {"question": "how many are there?", "answers": ["one"], "type": "count"},
            {"question": "what color is the square?", "answers": [color], "type": "color"},
        ]
        lines.append({"file_name": name, "captions": [f"a {color} square"], "qa": asked})
    (split / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return work


def test_index_and_search_then_the_table(folder: Path, capfd) -> None:
    """The report reads what `vlkd index search` writes: ids, scores and what is said of each picture."""
    runner = Runner(folder, Console(quiet=True))
    for step in plan(folder):
        if step.name in ("index", "search"):
            runner.run(replace(step, needs=()))
    found = report.load(folder, ["search"])["search"]
    assert len(found["results"]) == len(COLORS)
    out = io.StringIO()
    Console(file=out, width=120).print(report.search_table(QUERY, found))
    assert all(f"{number}.png" in out.getvalue() for number in range(len(COLORS)))
    assert all(f"a {color} square" in out.getvalue() for color in COLORS)


def test_ask(folder: Path) -> None:
    """The question about a colour is preferred, and the truth stands beside the answer."""
    answers = ask(folder / "bundle", folder / "data" / "test")
    assert answers.question == "what color is the square?"
    assert (answers.reference, answers.truth) == ("a red square", "red")
    assert answers.caption
    assert answers.picture.endswith("0.png")
