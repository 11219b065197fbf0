"""Where items come from: tables, shards, vectors, texts; where their pictures lie."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_serving.index import ImageRoot, IndexReader, IndexWriter, Item
from vlkd_serving.index.build import build_index
from vlkd_serving.index.precomputed import load_precomputed
from vlkd_serving.index.scan import scan_folder
from vlkd_serving.index.shards import ShardReader, scan_shards
from vlkd_serving.index.tables import scan_table, scan_texts


def test_parquet_keeps_types(pictures: Path, tmp_path: Path) -> None:
    """Numbers and lists stay what they are; a path outside the folder is refused."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"path": ["red.png", "green.jpg"], "id": ["r", "g"], "n": [1, None], "tags": [["a"], []]})
    parquet.write_table(table, tmp_path / "t.parquet")
    items = scan_table(tmp_path / "t.parquet", pictures)
    assert items == [
        Item(id="r", path="red.png", metadata={"n": 1, "tags": ["a"]}),
        Item(id="g", path="green.jpg", metadata={"tags": []}),
    ]
    parquet.write_table(arrow.table({"path": ["../x.png"]}), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="must lie inside"):
        scan_table(tmp_path / "bad.parquet", pictures)
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a Parquet file"):
        scan_table(tmp_path / "no.parquet", pictures)


@pytest.fixture
def shard(pictures: Path, tmp_path: Path) -> Path:
    """A tar file with two pictures, what is said of them, and a broken one."""
    path = tmp_path / "part-000.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in [
            ("a/1.png", (pictures / "red.png").read_bytes()),
            ("a/1.json", json.dumps({"class": "field", "n": 3}).encode()),
            ("a/2.jpg", (pictures / "green.jpg").read_bytes()),
            ("a/2.txt", b"a green field\n"),
            ("a/3.png", b"no picture"),
            ("a/3.cls", b"7"),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_shards_are_indexed_where_they_lie(shard: Path, tmp_path: Path, fake: ModuleType) -> None:
    """Key, caption and fields of each picture; the broken one is listed."""
    items = scan_shards([shard])
    assert [item.id for item in items] == ["part-000/a/1", "part-000/a/2", "part-000/a/3"]
    assert items[0].metadata == {"class": "field", "n": 3, "shard": "part-000.tar", "member": "a/1.png"}
    assert items[1].metadata["captions"] == ["a green field"]
    report = build_index(tmp_path / "i", fake.FakeStudent(), fake.FINGERPRINT, items, None, read=ShardReader([shard]))
    assert [skipped.id for skipped in report.skipped] == ["part-000/a/3"]
    hits = IndexReader.open(tmp_path / "i").search(fake.FakeStudent().embed_texts(["green"])[0], 1)
    assert hits[0].item.id == "part-000/a/2"


def test_shards_that_are_none(shard: Path, tmp_path: Path) -> None:
    """A cut tar, and one without pictures."""
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError, match=r"part-000\.tar"):
        scan_shards([shard])
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(DataError, match="None of 1 shards"):
        scan_shards([tmp_path / "empty.tar"])


def test_texts_answer_a_picture(pictures: Path, tmp_path: Path, fake: ModuleType) -> None:
    """Picture to text: the index holds sentences."""
    source = tmp_path / "t.txt"
    source.write_text("a red thing\n\nsomething green\n")
    items = scan_texts(source)
    assert [item.id for item in items] == ["1", "3"]
    build_index(tmp_path / "i", fake.FakeStudent(), fake.FINGERPRINT, items, None, texts=True)
    from PIL import Image

    with Image.open(pictures / "green.jpg") as image:
        query = fake.FakeStudent().embed_images([image.convert("RGB")])[0]
    assert IndexReader.open(tmp_path / "i").search(query, 1)[0].item.metadata == {"text": "something green"}


def test_vectors_that_are_there_already(tmp_path: Path) -> None:
    """Any length, fp16 or fp64; ids from text or objects, or the row numbers."""
    vectors = np.random.default_rng(0).normal(size=(4, 8))
    np.save(tmp_path / "v.npy", vectors.astype(np.float16))
    (tmp_path / "ids.txt").write_text("a\nb b\nc\nd\n")
    (tmp_path / "ids.jsonl").write_text("\n".join(json.dumps({"id": i, "path": f"{i}.png", "n": i}) for i in range(4)))
    items, array = load_precomputed(tmp_path / "v.npy", tmp_path / "ids.txt")
    assert [item.id for item in items] == ["a", "b b", "c", "d"]
    with IndexWriter(tmp_path / "i", "ab" * 32) as writer:
        writer.build(items, array, None, space="the teacher")
    reader = IndexReader.open(tmp_path / "i")
    assert reader.search(vectors[2], 1)[0].item.id == "c" and reader.manifest.space == "the teacher"
    assert load_precomputed(tmp_path / "v.npy", tmp_path / "ids.jsonl")[0][1] == Item(
        id="1", path="1.png", metadata={"n": 1}
    )
    assert [item.id for item in load_precomputed(tmp_path / "v.npy", None)[0]] == list("0123")


def test_vectors_that_are_none(tmp_path: Path) -> None:
    """Pickles never run; shapes and counts are checked."""
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.ones(4))
    np.save(tmp_path / "v.npy", np.ones((2, 4)))
    (tmp_path / "ids").write_text("a\n")
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for vectors, ids, message in [
        ("objects.npy", None, "not a .npy array"),
        ("flat.npy", None, "of shape"),
        ("v.npy", "ids", "names 1 items"),
        ("v.npy", "bad.jsonl", "line 1"),
    ]:
        with pytest.raises(DataError, match=message):
            load_precomputed(tmp_path / vectors, tmp_path / ids if ids else None)


def test_folder_and_index_may_move_together(pictures: Path, tmp_path: Path, fake: ModuleType) -> None:
    """The manifest holds no absolute path."""
    home = tmp_path / "home"
    home.mkdir()
    pictures.rename(home / "pictures")
    build_index(home / "index", fake.FakeStudent(), fake.FINGERPRINT, scan_folder(home / "pictures"), home / "pictures")
    assert str(tmp_path) not in (home / "index" / "MANIFEST").read_text()
    home.rename(tmp_path / "moved")
    reader = IndexReader.open(tmp_path / "moved" / "index")
    assert reader.picture_path("red.png") == (tmp_path / "moved" / "pictures" / "red.png").resolve()


def test_a_root_that_the_machine_names(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same index on a machine that keeps its pictures elsewhere, or does not have them."""
    monkeypatch.setenv("VLKD_ROOT_PHOTOS", str(tmp_path))
    root = ImageRoot.of(pictures, tmp_path / "i", "photos")
    assert str(root) == "photos:pictures" and root.resolve(tmp_path / "i") == pictures.resolve()
    monkeypatch.setenv("VLKD_ROOT_PHOTOS", "/elsewhere")
    assert root.resolve(tmp_path / "i") == Path("/elsewhere/pictures")
    with pytest.raises(InvalidInputError, match="does not lie in"):
        ImageRoot.of(pictures, tmp_path / "i", "photos")
    monkeypatch.delenv("VLKD_ROOT_PHOTOS")
    assert root.resolve(tmp_path / "i") is None
    for name, message in [("photos", "VLKD_ROOT_PHOTOS"), ("Photos!", "cannot name"), ("absolute", "cannot name")]:
        with pytest.raises(InvalidInputError, match=message):
            ImageRoot.of(pictures, tmp_path / "i", name)
