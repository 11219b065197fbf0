"""docs/hub.md: its commands are run, its card file is used, and the files it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from vlkd_hub.cli import VERBS, main

from .hub_server import HubServer
from .small import write_bundle, write_student


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).resolve().parents[3] / "docs" / "hub.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("vlkd ")]


def run(args: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    return int(stopped.value.code or 0)


def test_push_and_pull_as_written(page: str, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that looks as a clone does after the quickstart."""
    monkeypatch.chdir(tmp_path)
    write_student(tmp_path / ".quickstart" / "student")
    write_bundle(tmp_path / ".quickstart" / "bundle")
    ran = [args[0] for args in commands(page) if args[0] in ("push", "pull") and run(args) == 0]
    assert ran == ["push", "pull"]
    assert (tmp_path / "shapes" / "bundle" / "manifest.json").is_file()


def test_the_export_page_pushes(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one line that needs an account, with an account of the server on this machine."""
    monkeypatch.chdir(tmp_path)
    write_student(tmp_path / ".quickstart" / "student")
    write_bundle(tmp_path / ".quickstart" / "shapes")
    text = (Path(__file__).resolve().parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
    (line,) = [args for args in commands(text) if args[0] == "push"]
    assert run(line) == 0
    assert hub.store.repos["me/shapes"].private
    assert "bundle/manifest.json" in hub.store.files("me/shapes")


def test_the_card_file_as_written(page: str, hub: HubServer, tmp_path: Path) -> None:
    (block,) = blocks(page, "yaml")
    (tmp_path / "card.yaml").write_text(block)
    student = write_student(tmp_path / "student")
    assert run(["push", str(student), "me/shapes", "--card-data", str(tmp_path / "card.yaml")]) == 0
    card = hub.store.files("me/shapes")["README.md"].decode()
    data = yaml.safe_load(card.split("---")[1])
    assert data["license"] == yaml.safe_load(block)["license"]
    assert yaml.safe_load(block)["data_license"] in card


def test_options_and_verbs_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert {args[0] for args in commands(page)} <= VERBS.keys()
    options = set(re.findall(r"^\| `(--[a-z-]+)", page, re.MULTILINE))
    assert run(["push", "--help"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert len(options) >= 7
    assert {option for option in options if option not in shown} == set()


def test_tests_that_are_named_are_there(page: str) -> None:
    root = Path(__file__).resolve().parents[3]
    named = re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert len(named) >= 5
    assert [name for name in named if not (root / name).is_file()] == []


def test_python_compiles(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, "hub.md", "exec")
