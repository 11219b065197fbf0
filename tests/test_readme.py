"""What the README shows is run, and what it names is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from vlkd_hub.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks as a clone does after the quickstart."""
    (tmp_path / ".quickstart").mkdir()
    Image.new("RGB", (50, 40), "red").save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TORCH_BLOCKS = [block for block in BLOCKS if ".quickstart/student" in block]
ONNX_BLOCKS = [block for block in BLOCKS if ".quickstart/bundle" in block]


def test_every_block_is_run_below() -> None:
    assert len(TORCH_BLOCKS) == 2
    assert len(ONNX_BLOCKS) == 1
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", TORCH_BLOCKS)
def test_blocks_with_torch(block: str, clone: Path, tiny_student: Path, capsys) -> None:
    """With a student of random weights: the calls and types are what is tested."""
    (clone / ".quickstart" / "student").symlink_to(tiny_student)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("block", ONNX_BLOCKS)
def test_blocks_with_the_bundle(block: str, clone: Path, tiny_bundle: Path, capsys) -> None:
    (clone / ".quickstart" / "bundle").symlink_to(tiny_bundle)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


def test_the_example_is_ten_lines() -> None:
    """Ten lines of code, as promised to a reader who decides in a minute."""
    assert len([line for line in TORCH_BLOCKS[0].splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_verb_has_a_row() -> None:
    listed = re.findall(r"^\| `vlkd (\w+)` \|", README, re.MULTILINE)
    assert listed == list(VERBS)


def test_every_make_target_named_exists() -> None:
    """`make -n` fails on a target that the Makefile does not have."""
    code = "\n".join(line for page in PAGES for line in _code(page))
    named = re.findall(r"^make((?: [a-z-]+)+)(?= *$| ARGS)", code, re.MULTILINE)
    targets = {word for words in named for word in words.split()}
    assert {"quickstart", "test", "check"} <= targets
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"make {target}: {done.stderr}"


def _code(page: Path) -> list[str]:
    """Fenced blocks and inline code of a page."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0] for fence in fences for line in fence.splitlines()] + re.findall(r"`([^`\n]+)`", text)
