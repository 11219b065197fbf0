"""The commands of ``docs/index.md``, typed one after the other on a real bundle."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vlkd_hub.cli import app
from vlkd_hub.errors import VlkdError


def vlkd(*args: object) -> str:
    """The output of a command that must succeed."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def found(*args: object) -> list[str]:
    """The ids of a search."""
    answer: dict[str, Any] = json.loads(vlkd("index", "search", *args, "--json"))
    return [hit["id"] for hit in answer["results"]]


@pytest.fixture
def index(tmp_path: Path, tiny_bundle: Path, pictures: Path) -> Path:
    """Three pictures, at fp16."""
    directory = tmp_path / "typed"
    out = vlkd("index", "build", directory, "--model", tiny_bundle, "--images", pictures, "--precision", "fp16")
    assert "Generation 1: 3 items" in out and "flat fp16: recall@10 1.000" in out
    return directory


def test_search_with_filters_pages_and_two_parts(index: Path, tiny_bundle: Path, pictures: Path) -> None:
    """Text, picture, both; what a filter leaves; the second page."""
    model = ("--model", tiny_bundle)
    assert found(index, *model, "--image", pictures / "green.jpg", "--k", 1) == ["green.jpg"]
    assert found(index, *model, "--text", "a red circle", "--where", "class = 'field'") == ["red.png"]
    assert found(index, *model, "--text", "x", "--where", "class IS NULL AND NOT id LIKE 'more/%'") == ["green.jpg"]
    pages = [found(index, *model, "--text", "a red circle", "--k", 1, "--offset", n)[0] for n in range(3)]
    assert pages == found(index, *model, "--text", "a red circle")
    both = ("--text", "a red circle", "--image", pictures / "red.png")
    assert found(index, *model, *both, "--weights", "0,1", "--k", 1) == ["red.png"]
    assert found(index, *model, *both, "--weights", "0,-1")[-1] == "red.png"


def test_live_changes_compact_split_merge(index: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """The life of an index, without a rewrite for each change."""
    assert vlkd("index", "remove", index, "red.png", "--live").strip() == "Change 2: 2 items."
    table = tmp_path / "t.csv"
    table.write_text("path,id,n\nred.png,again,5\n")
    out = vlkd("index", "add", index, "--model", tiny_bundle, "--images", pictures, "--table", table, "--live")
    assert "Change 3: 3 items." in out
    assert found(index, "--model", tiny_bundle, "--text", "x", "--where", "n = 5") == ["again"]
    assert vlkd("index", "compact", index).strip() == "Generation 2: 3 items."
    vlkd("index", "split", index, tmp_path / "a", tmp_path / "b", "--where", "n = 5")
    assert vlkd("index", "merge", tmp_path / "ab", tmp_path / "a", tmp_path / "b").strip() == "Generation 1: 3 items."
    assert json.loads(vlkd("index", "duplicates", tmp_path / "ab", "--threshold", "1", "--json")) == []
    assert "0 groups" in vlkd("index", "duplicates", tmp_path / "ab", "--threshold", "1")


def test_load_declare_migrate(index: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """Vectors of a teacher, its student declared, then the index brought to the student."""
    from vlkd_serving.index import IndexReader

    reader = IndexReader.open(index)
    np.save(tmp_path / "v.npy", reader.vectors())
    lines = [json.dumps({"id": item.id, "path": item.path, "n": n}) for n, item in enumerate(reader.items())]
    (tmp_path / "ids.jsonl").write_text("\n".join(lines))
    teacher = tmp_path / "teacher"
    given = ("--vectors", tmp_path / "v.npy", "--ids", tmp_path / "ids.jsonl", "--images", pictures)
    assert "3 items" in vlkd("index", "load", teacher, *given, "--space", "a teacher")
    query = (teacher, "--model", tiny_bundle, "--image", pictures / "red.png", "--k", 1)
    with pytest.raises(VlkdError, match="scores would mean nothing"):
        found(*query)
    assert "100.0% find themselves" in re.sub(r"\s+", " ", vlkd("index", "declare", teacher, "--model", tiny_bundle))
    with pytest.raises(VlkdError, match="--teacher-index"):
        found(*query)
    assert found(*query, "--teacher-index") == ["red.png"]
    assert "Generation 2: 3 items" in vlkd("index", "migrate", teacher, "--model", tiny_bundle)
    assert found(*query) == ["red.png"]
    assert "pictures under index:../pictures" in vlkd("index", "migrate", index)


def test_sentences_and_what_is_refused(tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """Picture to text; a source too many; options that fit nothing."""
    (tmp_path / "t.txt").write_text("a red circle\na blue square\n")
    vlkd("index", "build", tmp_path / "texts", "--model", tiny_bundle, "--texts", tmp_path / "t.txt")
    assert found(tmp_path / "texts", "--model", tiny_bundle, "--text", "a blue square", "--k", 1) == ["2"]
    shutil.copy(tmp_path / "t.txt", tmp_path / "t.tar")
    build = ("index", "build", tmp_path / "no", "--model", tiny_bundle)
    for args, message in [
        (("--images", pictures, "--texts", tmp_path / "t.txt"), "Give one of"),
        ((), "Give one of"),
        (("--shards", tmp_path / "t.tar"), "not a tar file"),
        (("--images", pictures, "--memory", "many"), "not a size"),
        (("--images", pictures, "--memory", "1B"), "need at least"),
        (("--images", pictures, "--recall", "2"), "recall to reach"),
        (("--images", pictures, "--kind", "tree"), "Unknown kind"),
        (("--images", pictures, "--root-name", "photos"), "VLKD_ROOT_PHOTOS"),
    ]:
        with pytest.raises(VlkdError, match=message):
            vlkd(*build, *args)
    with pytest.raises(VlkdError, match="Whose|whose"):
        vlkd("index", "load", tmp_path / "no", "--vectors", tmp_path / "t.txt")
