from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from vlkd_hub.errors import DataError
from vlkd_training.data.records import QuestionAnswer, Record, RecordDataset


def _png(color: str = "red", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (3, 2), color).save(buffer, format="PNG")
    return buffer.getvalue()


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_load_image_from_path_and_bytes_is_rgb(tmp_path: Path) -> None:
    """Both kinds of record give the same picture; a grey one comes as RGB, for models take three channels."""
    content = _png("white", "L")
    from_bytes = Record("a", image_bytes=content).load_image()
    from_path = Record("a", image_path=_file(tmp_path / "a.png", content)).load_image()
    assert from_bytes.mode == "RGB" and from_bytes.size == (3, 2)
    assert from_bytes.tobytes() == from_path.tobytes()


def test_transparent_parts_become_white() -> None:
    """Dropping alpha shows whatever colour lies under it, mostly black: NLVR's pictures are transparent."""
    buffer = io.BytesIO()
    Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(buffer, format="PNG")
    assert Record("a", image_bytes=buffer.getvalue()).load_image().getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("content", [b"", b"no picture", _png()[:40]])
def test_broken_picture_names_the_record(tmp_path: Path, content: bytes) -> None:
    """Hours into a run, the message must say which picture to replace."""
    with pytest.raises(DataError, match="record 'a' cannot be read .*a.png"):
        Record("a", image_path=_file(tmp_path / "a.png", content)).load_image()


def test_only_usual_formats_and_sizes_are_decoded() -> None:
    """A data set comes from strangers: no old decoder is asked, and a bomb is known by its header."""
    tiff, bomb = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (3, 2)).save(tiff, format="TIFF")
    with pytest.raises(DataError, match="it is no JPEG, PNG, WEBP"):
        Record("a", image_bytes=tiff.getvalue()).load_image()
    Image.new("1", (5001, 5000)).save(bomb, format="PNG")
    with pytest.raises(DataError, match="5001 x 5000 pixels, and at most 25 million"):
        Record("a", image_bytes=bomb.getvalue()).load_image()


def test_missing_picture_is_a_data_error(tmp_path: Path) -> None:
    """Deleted between opening and reading."""
    record = Record("a", image_path=tmp_path / "gone.png")
    with pytest.raises(DataError, match="gone.png"):
        record.load_image()
    with pytest.raises(DataError, match="gone.png"):
        _ = RecordDataset([record]).fingerprint


def test_record_needs_one_picture(tmp_path: Path) -> None:
    """Two sources could disagree, none cannot be loaded."""
    with pytest.raises(DataError, match="exactly one"):
        Record("a")
    with pytest.raises(DataError, match="exactly one"):
        Record("a", image_path=tmp_path, image_bytes=b"x")


def test_dataset_is_a_sequence() -> None:
    """Trainers index, slice and iterate."""
    records = [Record(str(number), image_bytes=_png()) for number in range(4)]
    dataset = RecordDataset(records)
    assert len(dataset) == 4
    assert dataset[2].id == "2" and dataset[-1].id == "3"
    assert [record.id for record in dataset[1:3]] == ["1", "2"]
    assert list(dataset) == records


def test_empty_dataset_is_refused() -> None:
    """A run over nothing would end at once and look like success."""
    with pytest.raises(DataError, match="nothing holds no record"):
        RecordDataset([], "nothing")


def test_fingerprint_survives_a_copy_and_sees_changes(tmp_path: Path) -> None:
    """A cache is keyed by it: a copy elsewhere with other times must hit, any changed text or picture must miss."""
    (tmp_path / "there").mkdir()
    here = Record("a", captions=("one",), image_path=_file(tmp_path / "a.png", _png()))
    there = Record("a", captions=("one",), image_path=_file(tmp_path / "there" / "a.png", _png()))
    assert there.image_path is not None
    os.utime(there.image_path, (1, 1))
    same = {RecordDataset([record]).fingerprint for record in (here, there)}
    assert len(same) == 1
    others = [
        Record("b", captions=("one",), image_path=here.image_path),
        Record("a", captions=("two",), image_path=here.image_path),
        Record("a", captions=("one",), qa=(QuestionAnswer("q", ("a",)),), image_path=here.image_path),
        Record("a", captions=("one",), image_path=_file(tmp_path / "b.png", _png("blue"))),
    ]
    assert len(same | {RecordDataset([record]).fingerprint for record in others}) == 5


def test_fingerprint_depends_on_order() -> None:
    """Cached rows are found by position."""
    records = [Record(name, image_bytes=_png()) for name in "ab"]
    assert RecordDataset(records).fingerprint != RecordDataset(records[::-1]).fingerprint
