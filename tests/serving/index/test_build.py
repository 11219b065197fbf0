"""From a folder or a CSV file to an index: ids, metadata, broken pictures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vlkd_hub.errors import DataError, InvalidInputError
from vlkd_serving.index import IndexReader
from vlkd_serving.index.build import build_index
from vlkd_serving.index.scan import scan_folder
from vlkd_serving.index.tables import scan_csv


def test_scan_finds_sub_folders_and_metadata(pictures: Path) -> None:
    """Ids are relative paths; captions and plain fields are kept, long structures are not."""
    items = {item.id: item for item in scan_folder(pictures)}
    assert list(items) == ["green.jpg", "more/blue.webp", "red.png"]
    assert items["red.png"].metadata == {"captions": ["a red field"], "class": "field"}


def test_scan_rejects_a_broken_metadata_line(pictures: Path) -> None:
    """It names the file and the line."""
    (pictures / "more" / "metadata.jsonl").write_text('{"file_name": "blue.webp"}\n[]\n')
    with pytest.raises(DataError, match=r"more/metadata.jsonl, line 2"):
        scan_folder(pictures)


def test_scan_rejects_a_folder_without_pictures(tmp_path: Path) -> None:
    """An empty index is never what was meant."""
    with pytest.raises(DataError, match="no picture"):
        scan_folder(tmp_path)


def test_csv_gives_ids_and_metadata(pictures: Path, tmp_path: Path) -> None:
    """Only what is listed, in its order."""
    table = tmp_path / "t.csv"
    table.write_text("id,path,price,code\nB-1,more/blue.webp,12,007\n,red.png,,\n")
    items = scan_csv(table, pictures)
    assert [(item.id, item.path, item.metadata) for item in items] == [
        ("B-1", "more/blue.webp", {"price": 12, "code": "007"}),
        ("red.png", "red.png", {}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nred.png\n", "column 'path'"),
        ("path\n../secret.png\n", "must lie inside"),
        ("path\n/etc/passwd\n", "must lie inside"),
        ("path\nred.png\nred.png\n", "given twice"),
        ("path\n", "lists no picture"),
        ("path\nred.png,extra\n", "one value a column"),
    ],
)
def test_csv_errors_say_what_to_mend(pictures: Path, tmp_path: Path, content: str, message: str) -> None:
    """Paths must not leave the folder: the server would hand those files out."""
    table = tmp_path / "t.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=message):
        scan_csv(table, pictures)


def test_broken_pictures_are_skipped_and_listed(pictures: Path, tmp_path: Path, fake: ModuleType) -> None:
    """One bad file of thousands must not stop a build, nor pass unseen."""
    (pictures / "cut.png").write_bytes((pictures / "red.png").read_bytes()[:40])
    (pictures / "text.jpg").write_text("hello")
    done: list[int] = []
    report = build_index(
        tmp_path / "i",
        fake.FakeStudent(),
        fake.FINGERPRINT,
        scan_folder(pictures),
        pictures,
        batch_size=2,
        progress=done.append,
    )
    assert {skipped.id for skipped in report.skipped} == {"cut.png", "text.jpg"}
    assert (report.manifest.ntotal, sum(done)) == (3, 5)
    reader = IndexReader.open(tmp_path / "i", fake.FINGERPRINT)
    query = fake.FakeStudent().embed_texts(["something blue"])[0]
    assert reader.search(query, 1)[0].item.id == "more/blue.webp"


def test_nothing_readable_writes_nothing(tmp_path: Path, fake: ModuleType) -> None:
    """The index that was there stays."""
    root = tmp_path / "p"
    root.mkdir()
    (root / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="None of the 1 pictures"):
        build_index(tmp_path / "i", fake.FakeStudent(), fake.FINGERPRINT, scan_folder(root), root)
    assert not (tmp_path / "i" / "MANIFEST").exists()


def test_adding_from_another_folder_is_refused(
    index_dir: Path, tmp_path: Path, pictures: Path, fake: ModuleType
) -> None:
    """Paths are relative to one root; a second root would make the old ones point nowhere."""
    items = scan_folder(pictures / "more")
    with pytest.raises(InvalidInputError, match="same folder"):
        build_index(index_dir, fake.FakeStudent(), fake.FINGERPRINT, items, pictures / "more", add=True)
    report = build_index(index_dir, fake.FakeStudent(), fake.FINGERPRINT, scan_folder(pictures)[:1], pictures, add=True)
    assert report.manifest.ntotal == 3


def test_picture_path_never_leaves_the_root(index_dir: Path, pictures: Path, tmp_path: Path, fake: ModuleType) -> None:
    """A link in the folder that leads out of it is not followed for a client."""
    reader = IndexReader.open(index_dir)
    assert reader.picture_path("red.png") == (pictures / "red.png").resolve()
    secret = tmp_path / "secret.png"
    secret.write_bytes((pictures / "red.png").read_bytes())
    (pictures / "red.png").unlink()
    assert reader.picture_path("red.png") is None
    (pictures / "red.png").symlink_to(secret)
    assert reader.picture_path("red.png") is None
    assert reader.picture_path("../secret.png") is None


def test_embeddings_of_the_build_equal_those_of_the_student(index_dir: Path, pictures: Path, fake: ModuleType) -> None:
    """Batching, threads and skipping must not shift rows."""
    from PIL import Image

    reader = IndexReader.open(index_dir)
    for item, vector in zip(reader.items(), reader.vectors(), strict=True):
        with Image.open(pictures / str(item.path)) as image:
            np.testing.assert_allclose(fake.FakeStudent().embed_images([image.convert("RGB")])[0], vector, atol=1e-6)
