from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.records import Hypothesis, QuestionAnswer, Record, Region
from vlkd_training.data.webdataset import read_shards, write_shards


def _png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (shade, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def _records(count: int) -> list[Record]:
    return [
        Record(
            f"id{number}",
            captions=(f"caption {number}", "é"),
            qa=(QuestionAnswer("what?", ("a", "b"), "type"), QuestionAnswer("who?", ("c",))),
            hypotheses=(Hypothesis("text", "neutral"),),
            label="class",
            regions=(Region((0, 0, 1, 1), "tag"),),
            image_bytes=_png(number),
        )
        for number in range(count)
    ]


def test_round_trip(tmp_path: Path) -> None:
    """Everything comes back, in order, over shards of three kinds of pattern."""
    records = _records(5)
    shards = write_shards(records, tmp_path, "train", records_per_shard=2)
    assert [shard.name for shard in shards] == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    for pattern in ("train-*.tar", "{split}-*.tar", "train-{000000..000002}.tar"):
        assert list(read_shards(f"webdataset:{tmp_path}/{pattern}", "train")) == records
    assert list(read_shards(f"webdataset:{tmp_path}/train-{{000001..000002}}.tar", "train")) == records[2:]


def test_reading_is_a_stream(tmp_path: Path) -> None:
    """The second shard is not opened before the first is used up: here it is missing its bytes."""
    _, second = write_shards(_records(2), tmp_path, "train", records_per_shard=1)
    second.write_bytes(b"")
    stream = read_shards(f"webdataset:{tmp_path}/*.tar", "train")
    assert next(stream).id == "id0"
    with pytest.raises(DataError, match="SHA-256 differs"):
        next(stream)


def test_picture_files_are_copied_as_they_are(tmp_path: Path) -> None:
    """No second compression."""
    path = tmp_path / "a.png"
    path.write_bytes(_png())
    write_shards([Record("a", image_path=path)], tmp_path / "shards", "train")
    (record,) = read_shards(f"webdataset:{tmp_path}/shards/*.tar", "train")
    assert record.image_bytes == path.read_bytes()


def test_foreign_shards_with_txt(tmp_path: Path) -> None:
    """Shards made elsewhere carry the caption as .txt and no index; extensions may have several parts."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("0001.jpg", _png()), ("0001.txt", b"a dog"), ("0002.seg.png", _png())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    first, second = read_shards(f"webdataset:{path}", "train")
    assert first.captions == ("a dog",)
    assert second.captions == ()


def test_broken_shards(tmp_path: Path) -> None:
    """A cut file, a member without its picture, a pattern that matches nothing, nothing to write."""
    (shard,) = write_shards(_records(1), tmp_path, "train")
    (tmp_path / "shards.json").unlink()
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError, match="is no whole tar file|expected one picture"):
        list(read_shards(f"webdataset:{shard}", "train"))
    with tarfile.open(shard, "w") as tar:
        tar.addfile(tarfile.TarInfo("0.json"), io.BytesIO())
    with pytest.raises(DataError, match="expected one picture, got 0"):
        list(read_shards(f"webdataset:{shard}", "train"))
    with pytest.raises(DataError, match="No shard matches"):
        list(read_shards(f"webdataset:{tmp_path}/gone-*.tar", "train"))
    with pytest.raises(DataError, match="no record to write"):
        write_shards([], tmp_path, "train")
    with pytest.raises(DataError, match="records_per_shard"):
        write_shards(_records(1), tmp_path, "train", records_per_shard=0)
    with pytest.raises(DataError, match="'id0' cannot be read"):
        broken = replace(_records(1)[0], image_bytes=None, image_path=tmp_path / "gone.png")
        write_shards([broken], tmp_path, "train")
