"""``docs/export.md`` as a person works through it: plain blocks are run, marked ones are checked word by word."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from vlkd_hub.bench import app as benches
from vlkd_hub.cli import app, main

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```([a-z ]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MARKS = ("# on a machine with a GPU", "# in an environment of its own", "# minutes", "# with an account")
SHELL = [body.splitlines() for kind, body in BLOCKS if kind == "sh"]
RUN = [line for block in SHELL if block[0] not in MARKS for line in block]
LONG = [line for block in SHELL if block[0] == "# minutes" for line in block[1:]]
CHECKED = [line for block in SHELL if block[0] in MARKS for line in block[1:]]
PYTHON = {kind: body for kind, body in BLOCKS if kind.startswith("python")}


@pytest.fixture
def clone(tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks as a clone does after the quickstart."""
    (tmp_path / ".quickstart").mkdir()
    (tmp_path / ".quickstart" / "student").symlink_to(tiny_student)
    Image.new("RGB", (50, 40), "red").save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_is_made_of_these() -> None:
    """Every block is of a kind that is run or checked below, and a mark is not misspelt into a comment."""
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "python gpu", "python optimum"}
    assert len(RUN) == 8 and len(CHECKED) == 11
    assert all(line.startswith("vlkd ") for line in RUN)


def test_plain_blocks_run(
    traced_before: Path, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order, from the same folder; each ends well and says something. The Python block comes in its place."""
    for line in RUN:
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line)[1:])
        said = capsys.readouterr()
        assert ended.value.code in (0, None), f"{line}\n{said.err}"
        assert said.out.strip(), line
    exec(compile(PYTHON["python"], "docs/export.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.strip()
    assert (clone / ".quickstart" / "models" / "caption" / "config.pbtxt").is_file()
    assert (clone / ".quickstart" / "for-tensorrt" / "tensorrt" / "plan.json").is_file()


def test_the_block_of_minutes_runs(
    clone: Path, tiny_bundle: Path, captioned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a small student and small data; the large tower that the bench times beside it is left out."""
    (clone / ".quickstart" / "shapes").symlink_to(tiny_bundle)
    (clone / ".quickstart" / "data").symlink_to(captioned)
    quick = {"export": [], "bench": ["--runs", "1", "--no-tower"]}
    for line in LONG:
        words = shlex.split(line)[1:]
        with pytest.raises(SystemExit) as ended:
            main([*words, *quick[words[0]]])
        said = capsys.readouterr()
        assert ended.value.code in (0, None), f"{line}\n{said.err}"
        assert ("ONNX files" if words[0] == "export" else "x torch") in said.out
    assert (clone / ".quickstart" / "small" / "quantization.svg").is_file()


@pytest.mark.parametrize("line", CHECKED)
def test_marked_lines_name_what_exists(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "vlkd":
        command = find_command(words[1:])
        options = {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= options
    elif words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert re.fullmatch(r"vlkd-hub\[(\w+)\]", words[2])[1] in extras  # type: ignore[index]
    else:
        assert words[0] in ("docker", "optimum-cli")  # optimum-cli's line is run by `make test-optimum`


def find_command(words: list[str]) -> Any:
    """The command behind ``verb`` or ``bench NAME``."""
    group: Any = typer.main.get_command(benches if words[0] == "bench" else app)
    return group.load(words[1] if words[0] == "bench" else words[0])


@pytest.mark.parametrize("kind", ["python gpu", "python optimum"])
def test_marked_python_compiles(kind: str) -> None:
    """And names what exists, where it is ours."""
    body = PYTHON[kind]
    compile(body, "docs/export.md", "exec")
    for line in re.findall(r"^(?:from vlkd_hub\S* import .*|import vlkd_hub\S*)$", body, re.MULTILINE):
        exec(line, {})


def test_the_option_table_is_true() -> None:
    """Options in the page's tables and sentences are those of ``vlkd export`` (or of a verb that the page shows)."""
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    verbs = [find_command(words) for words in (["export"], ["verify"], ["doctor"], ["push"])]
    known = {name for verb in verbs for parameter in verb.params for name in parameter.opts + parameter.secondary_opts}
    assert named <= known, named - known
