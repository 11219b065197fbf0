from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.records import Hypothesis
from vlkd_training.data.snli_ve import read_snli_ve


def _write(tmp_path: Path, *lines: dict[str, Any]) -> Path:
    folder = tmp_path / "snli_ve"
    folder.mkdir()
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    return folder


def test_pairs_of_a_picture_make_one_record(tmp_path: Path) -> None:
    """A picture is read once, however many sentences speak of it."""
    line = {"image": "a.png", "hypothesis": "a dog", "label": "neutral"}
    (record,) = read_snli_ve(_write(tmp_path, line, line | {"label": "entailment"}), "test")
    assert record.hypotheses == (Hypothesis("a dog", "neutral"), Hypothesis("a dog", "entailment"))
    assert record.load_image().size == (2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "maybe"}, "line 1: the label must be one of entailment, neutral, contradiction, got 'maybe'"),
        ({"hypothesis": "", "image": ""}, "line 1: no 'image' and no 'hypothesis'"),
        ({"image": "gone.png"}, "gone.png is missing"),
    ],
)
def test_broken_pairs(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """A wrong label would become a fourth class."""
    folder = _write(tmp_path, {"image": "a.png", "hypothesis": "a dog", "label": "neutral"} | change)
    with pytest.raises(DataError, match=message):
        list(read_snli_ve(folder, "test"))


def test_missing_split(tmp_path: Path) -> None:
    """It lists what there is."""
    with pytest.raises(DataError, match="no split 'dev'; it has: test"):
        list(read_snli_ve(_write(tmp_path, {}), "dev"))
