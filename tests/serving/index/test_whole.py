"""Work on whole indexes: merge, split, migrate, declare, near-duplicates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index import IndexReader, IndexWriter, Item, LiveWriter, QuerySpace, SpaceError
from vlkd_serving.index import manifest as manifest_module
from vlkd_serving.index.build import build_index
from vlkd_serving.index.declare import declare_compatible
from vlkd_serving.index.duplicates import find_duplicates
from vlkd_serving.index.migrate import migrate_format, migrate_model
from vlkd_serving.index.reshape import merge, shard_of, split
from vlkd_serving.index.scan import scan_folder

SPACE, D = "ab" * 32, 16
OTHER = "cd" * 32


def make(directory: Path, ids: list[str], space: str = SPACE) -> dict[str, np.ndarray]:
    """Half in the generation, half in the log."""
    vectors = {i: np.random.default_rng(list(i.encode())).normal(size=D) for i in ids}
    vectors = {i: v / np.linalg.norm(v) for i, v in vectors.items()}
    items, rows = [Item(id=i, metadata={"n": n}) for n, i in enumerate(ids)], np.stack(list(vectors.values()))
    half = len(ids) // 2
    with IndexWriter(directory, space) as writer:
        writer.build(items[:half], rows[:half], None)
    with LiveWriter(directory) as live:
        live.put(items[half:], rows[half:])
    return vectors


def content(directory: Path) -> dict[str, np.ndarray]:
    reader = IndexReader.open(directory)
    return {item.id: vector for item, vector in zip(reader.items(), reader.vectors(), strict=True)}


def test_split_and_merge_give_the_same_back(tmp_path: Path) -> None:
    """By a hash that is the same everywhere; vectors stay with their ids."""
    vectors = make(tmp_path / "whole", [f"i{n}" for n in range(60)])
    parts = [tmp_path / f"part{n}" for n in range(3)]
    split(tmp_path / "whole", parts)
    for number, part in enumerate(parts):
        assert {shard_of(i, 3) for i in content(part)} == {number}
    merge(tmp_path / "again", parts)
    found = content(tmp_path / "again")
    assert found.keys() == vectors.keys()
    for item_id, vector in found.items():
        np.testing.assert_allclose(vector, vectors[item_id], atol=1e-6)


def test_split_by_a_filter(tmp_path: Path) -> None:
    """What fits, and the rest."""
    make(tmp_path / "whole", [f"i{n}" for n in range(20)])
    split(tmp_path / "whole", [tmp_path / "low", tmp_path / "high"], "n < 7 OR n = 15")
    assert content(tmp_path / "low").keys() == {*(f"i{n}" for n in range(7)), "i15"}
    assert len(content(tmp_path / "high")) == 12


def test_what_cannot_be_merged_or_split(tmp_path: Path) -> None:
    """Told, and nothing is written."""
    make(tmp_path / "a", ["x", "y"])
    make(tmp_path / "b", ["y", "z"])
    make(tmp_path / "c", ["p", "q"], OTHER)
    for sources, message in [(["a", "b"], "'y' is in"), (["a", "c"], "another embedding space")]:
        with pytest.raises(InvalidInputError, match=message):
            merge(tmp_path / "new", [tmp_path / name for name in sources])
    with pytest.raises(InvalidInputError, match="holds an index already"):
        merge(tmp_path / "a", [tmp_path / "b", tmp_path / "c"])
    with pytest.raises(InvalidInputError, match="two or more"):
        split(tmp_path / "a", [tmp_path / "new"])
    with pytest.raises(BundleError, match="no index"):
        IndexReader.open(tmp_path / "new")


def test_merged_picture_paths_lead_to_the_pictures(pictures: Path, tmp_path: Path, fake: ModuleType) -> None:
    """Two folders under one: the common root, each path with its folder before it."""
    student, other = fake.FakeStudent(), tmp_path / "others"
    shutil.copytree(pictures, other)
    for name, folder in (("a", pictures), ("b", other)):
        items = [Item(id=f"{name}:{item.id}", path=item.path) for item in scan_folder(folder)]
        build_index(tmp_path / name, student, fake.FINGERPRINT, items, folder)
    merge(tmp_path / "both", [tmp_path / "a", tmp_path / "b"])
    reader = IndexReader.open(tmp_path / "both")
    assert reader.picture_path("a:red.png") == (pictures / "red.png").resolve()
    assert reader.picture_path("b:red.png") == (other / "red.png").resolve()


def as_format_1(directory: Path, root: Path) -> None:
    """Turn the manifest of an exact index into one as format 1 wrote it."""
    body = json.loads((directory / "MANIFEST").read_bytes())
    names = ("generation", "fingerprint", "embedding_dim", "ntotal", "created")
    old = {name: body[name] for name in names} | {"format": "vlkd-index", "format_version": 1, "kind": "flat"}
    (directory / "gen-000001" / "ids.bin").unlink()
    files = {name: body["files"][name] for name in ("vectors.faiss", "items.sqlite")}
    old |= {"image_root": str(root), "files": files}
    old["checksum"] = manifest_module._checksum(old)
    (directory / "MANIFEST").write_text(json.dumps(old))


def test_format_1_is_read_and_migrated(index_dir: Path, pictures: Path) -> None:
    """Searched as it is; a change or `vlkd index migrate` writes the present format, with a relative root."""
    before = content(index_dir)
    as_format_1(index_dir, pictures.resolve())
    reader = IndexReader.open(index_dir)
    assert reader.manifest.format_version == 1 and reader.picture_path("red.png") == (pictures / "red.png").resolve()
    manifest = migrate_format(index_dir)
    after = IndexReader.open(index_dir)
    assert (after.manifest.format_version, str(manifest.image_root)) == (2, "index:../pictures")
    assert after.picture_path("red.png") == (pictures / "red.png").resolve()
    assert content(index_dir).keys() == before.keys()
    (index_dir / manifest.folder / "vectors.faiss").write_bytes(b"")
    assert IndexReader.open(index_dir).get("red.png") is not None  # the generation of format 1 is still a way back


def test_migrating_to_a_model_goes_on_where_it_stopped(
    index_dir: Path, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two of three chunks: the old index still serves, and only the third is embedded again."""
    from vlkd_serving.index import migrate as module

    monkeypatch.setattr(module, "CHUNK_ITEMS", 1)
    student = fake.FakeStudent()
    embed, calls = student.embed_images, []

    def stopped(images: list[object]) -> np.ndarray:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.asarray(embed(images))

    student.embed_images = stopped
    with pytest.raises(KeyboardInterrupt):
        migrate_model(index_dir, student, OTHER)
    assert len(IndexReader.open(index_dir, fake.FINGERPRINT)) == 3
    student.embed_images = embed
    report = migrate_model(index_dir, student, OTHER)
    assert (report.resumed, report.manifest.ntotal, report.skipped) == (2, 3, ())
    assert len(IndexReader.open(index_dir, OTHER)) == 3 and not list(index_dir.glob("migrate-*"))
    with pytest.raises(InvalidInputError, match="this model already"):
        migrate_model(index_dir, student, OTHER)


def test_a_picture_gone_since_is_listed(index_dir: Path, pictures: Path, fake: ModuleType) -> None:
    """It cannot be embedded again, so it leaves the index, and the report names it."""
    (pictures / "red.png").unlink()
    report = migrate_model(index_dir, fake.FakeStudent(), OTHER)
    assert [skipped.id for skipped in report.skipped] == ["red.png"]
    assert {item.id for item in IndexReader.open(index_dir, OTHER).items()} == {"green.jpg", "more/blue.webp"}


class Turned:
    """A student of another space: its picture vectors have their parts in another order."""

    def __init__(self, student: object) -> None:
        self._student = student

    def embed_images(self, images: list[object]) -> np.ndarray:
        return np.roll(np.asarray(self._student.embed_images(images)), 1, axis=1)  # type: ignore[attr-defined]


def test_a_compatible_model_is_measured_declared_and_asked_for(index_dir: Path, fake: ModuleType) -> None:
    """Never silently: neither without a declaration, nor with one but without the flag."""
    with pytest.raises(SpaceError, match="scores would mean nothing"):
        IndexReader.open(index_dir, QuerySpace(OTHER, teacher_index=True))
    with pytest.raises(InvalidInputError, match="find themselves"):
        declare_compatible(index_dir, Turned(fake.FakeStudent()), OTHER)  # type: ignore[arg-type]
    agreement = declare_compatible(index_dir, fake.FakeStudent(), OTHER)
    assert agreement.recall_at_1 == 1.0 and agreement.cosine == pytest.approx(1, abs=1e-5)
    with pytest.raises(SpaceError, match="--teacher-index"):
        IndexReader.open(index_dir, OTHER)
    assert len(IndexReader.open(index_dir, QuerySpace(OTHER, teacher_index=True))) == 3
    with pytest.raises(SpaceError):
        IndexReader.open(index_dir, QuerySpace("ef" * 32, teacher_index=True))


def test_a_student_in_its_teachers_index_by_lineage(tmp_path: Path) -> None:
    """The index names the teacher's space and the bundle's lineage names the teacher; the flag is still needed."""
    with IndexWriter(tmp_path, SPACE) as writer:
        writer.build([Item(id="a")], np.ones((1, D)), None, space="teachers/big")
    with pytest.raises(SpaceError, match="--teacher-index"):
        IndexReader.open(tmp_path, QuerySpace(OTHER, "teachers/big"))
    assert len(IndexReader.open(tmp_path, QuerySpace(OTHER, "teachers/big", teacher_index=True))) == 1
    for teacher in ("", "teachers/other"):
        with pytest.raises(SpaceError, match="nothing"):
            IndexReader.open(tmp_path, QuerySpace(OTHER, teacher, teacher_index=True))


def test_near_duplicates_are_grouped(tmp_path: Path) -> None:
    """Chains join, in the generation and across the log; what is only similar stays apart."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(30, D))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    with IndexWriter(tmp_path, SPACE) as writer:
        copies = np.concatenate([base, base[:1] + 0.01 * rng.normal(size=(1, D)), np.repeat(base[1:2], 14, axis=0)])
        writer.build([Item(id=f"i{n:02}") for n in range(len(copies))], copies, None)
    with LiveWriter(tmp_path) as live:
        live.put([Item(id="late")], base[2:3])
        live.remove(["i05"])
    groups = find_duplicates(IndexReader.open(tmp_path), 0.98)
    assert [set(group.ids) for group in groups] == [
        {"i01", *(f"i{n}" for n in range(31, 45))},
        {"i00", "i30"},
        {"i02", "late"},
    ]
    assert groups[1].lowest > 0.98 and groups[0].lowest == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInputError, match="cosine"):
        find_duplicates(IndexReader.open(tmp_path), 1.5)
