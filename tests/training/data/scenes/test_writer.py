"""Writing splits: whole or not at all, resumable, the same with any number of processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_training.data.scenes import writer
from vlkd_training.data.scenes.examples import SceneExample, make_example
from vlkd_training.data.scenes.writer import SplitPlan, write_split

PLAN = SplitPlan(split="test", number=5, size=64)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_split_is_an_imagefolder(tmp_path: Path) -> None:
    """One line a picture, in order, naming files that are there."""
    seen: list[int] = []
    assert write_split(tmp_path, PLAN, advance=seen.append)
    lines = [json.loads(line) for line in (tmp_path / "test" / "metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == [f"{index:06d}.png" for index in range(5)]
    assert lines[4] == make_example("test", 4, size=64).metadata
    with Image.open(tmp_path / "test" / "000004.png") as drawn:
        assert drawn.tobytes() == make_example("test", 4, size=64).draw().tobytes()
    assert sum(seen) == 5 and not list(tmp_path.glob(".*"))


def test_processes_and_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are equal whether one process drew the split or two."""
    write_split(tmp_path / "one", PLAN)
    monkeypatch.setattr(writer, "_CHUNK", 2)
    write_split(tmp_path / "two", PLAN, workers=2)
    assert content(tmp_path / "one" / "test") == content(tmp_path / "two" / "test")


def test_a_finished_split_is_left_alone(tmp_path: Path) -> None:
    """A second run costs nothing and says so."""
    write_split(tmp_path, PLAN)
    before = (tmp_path / "test" / "000000.png").stat().st_mtime_ns
    seen: list[int] = []
    assert not write_split(tmp_path, PLAN, advance=seen.append)
    assert (tmp_path / "test" / "000000.png").stat().st_mtime_ns == before and sum(seen) == 5


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """Silently keeping five pictures where six were asked for would be wrong, deleting them worse."""
    write_split(tmp_path, PLAN)
    with pytest.raises(DataError, match="'number': 6.*another folder"):
        write_split(tmp_path, SplitPlan(split="test", number=6, size=64))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="not scenes"):
        write_split(tmp_path, SplitPlan(split="train", number=6, size=64))


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The split is not there until it is whole, and finished chunks are not drawn again."""
    monkeypatch.setattr(writer, "_CHUNK", 2)
    drawn: list[int] = []
    limit = 3

    def example(split: str, index: int, **options: int) -> SceneExample:
        if len(drawn) == limit:
            raise KeyboardInterrupt
        drawn.append(index)
        return make_example(split, index, **options)

    monkeypatch.setattr(writer, "make_example", example)
    with pytest.raises(KeyboardInterrupt):
        write_split(tmp_path, PLAN)
    assert not (tmp_path / "test").exists()
    drawn.clear()
    limit = 100
    assert write_split(tmp_path, PLAN)
    assert drawn == [2, 3, 4]
    write_split(tmp_path / "whole", PLAN)
    assert content(tmp_path / "test") == content(tmp_path / "whole" / "test")


def test_a_stale_partial_of_another_plan_is_dropped(tmp_path: Path) -> None:
    """Pictures of another size must not be mixed in."""
    stale = tmp_path / ".test.partial" / "parts"
    stale.mkdir(parents=True)
    (stale / f"{0:09d}.jsonl").write_text("{}\n")
    (stale.parent / ".scenes.json").write_text('{"split": "test", "number": 5, "size": 32}')
    write_split(tmp_path, PLAN)
    assert "scene_hash" in (tmp_path / "test" / "metadata.jsonl").read_text()
    assert os.listdir(tmp_path) == ["test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev", "number": 1}, "got 'dev'"),
        ({"split": "test", "number": 0}, "1 picture or more; got 0"),
        ({"split": "test", "number": 1, "size": 8}, "32 to 1024 pixels; got 8"),
    ],
)
def test_bad_plans_are_refused(options: dict, message: str) -> None:
    """The message names the value and the limit."""
    with pytest.raises(InvalidInputError, match=message):
        SplitPlan(**options)
