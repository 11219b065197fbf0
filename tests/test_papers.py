"""docs/papers.md names a place for every equation and setting; each place must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w./-]+\.(?:py|yaml))::([^`]+)`", PAGE)))


def defines(text: str, name: str) -> bool:
    """A class, a function, a field, an argument, an attribute or a constant of that name."""
    word = re.escape(name)
    kinds = (
        rf"^\s*(?:class|def) {word}\b",
        rf"^\s*{word}(?:\s*:[^=\n]+)?\s*[:=]",
        rf"\bself\.{word}\b",
        rf"\b{word}: ",
    )
    return any(re.search(kind, text, re.MULTILINE) for kind in kinds)


@pytest.mark.parametrize(("file", "name"), PLACES, ids=lambda value: str(value).rsplit("/", 1)[-1])
def test_every_place_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    found = name in text if file.endswith(".yaml") else defines(text, name)
    assert found, f"docs/papers.md names {file}::{name}, which is not there"


def test_the_page_covers_the_paper() -> None:
    """Both numbered equations, the three losses, and every row of Tables 10 and 11 that is a number."""
    assert len(PLACES) >= 45
    for word in ("equation (1)", "equation (2)", "L_TTDM", "L_ITCL", "L_ICTI", "gamma = 10^3", "footnote 1"):
        assert word in PAGE, word
    for value in ("576", "512", "5e-5", "6e-5", "1e-6", "1e-8", "0.07", "12K", "200K", "(0.99, 0.999)", "clipping 5.0"):
        assert value in PAGE, value


def test_a_name_that_is_not_there_is_seen() -> None:
    assert not defines("class Other: ...\nvalue = Something()\n# VLKDMethod\n", "VLKDMethod")
    assert defines("class VLKDMethod(Method):\n", "VLKDMethod")
    assert defines("    limit: int = 3\n", "limit")
