"""The promises of the index on disk: one commit point, verified reads, one writer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index import IndexCorruptError, IndexLockedError, IndexReader, IndexWriter, Item, LiveIndex

SPACE = "ab" * 32


def write(directory: Path, prefix: str, count: int = 4) -> None:
    vectors = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
    with IndexWriter(directory, SPACE) as writer:
        writer.build([Item(id=f"{prefix}{n}", metadata={"n": n}) for n in range(count)], vectors, None)


def ids(reader: IndexReader) -> list[str]:
    return [item.id for item in reader.items()]


def generations(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("gen-"))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """An index with generation 1 (a0..a3) and, committed over it, generation 2 (b0..b4)."""
    write(tmp_path, "a", 4)
    write(tmp_path, "b", 5)
    return tmp_path


def test_search_is_the_exact_cosine_order(tmp_path: Path) -> None:
    """Against numpy, on vectors of any length: the index normalises them itself."""
    rng = np.random.default_rng(0)
    vectors, query = rng.normal(size=(50, 8)).astype(np.float32) * 7, rng.normal(size=8).astype(np.float32)
    with IndexWriter(tmp_path, SPACE) as writer:
        writer.build([Item(id=str(n), metadata={"n": n}) for n in range(50)], vectors, None)
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    hits = IndexReader.open(tmp_path, SPACE).search(query, 5)
    assert [hit.item.id for hit in hits] == [str(n) for n in np.argsort(-cosine)[:5]]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosine)[::-1][:5], atol=1e-6)
    assert hits[0].item.metadata == {"n": int(hits[0].item.id)}


def test_k_above_the_size_gives_every_item_once(two: Path) -> None:
    """FAISS pads with -1; that must never reach a caller."""
    hits = IndexReader.open(two).search(np.ones(8, np.float32), 99)
    assert sorted(hit.item.id for hit in hits) == ["b0", "b1", "b2", "b3", "b4"]


def test_add_replaces_by_id_and_remove_takes_out(two: Path) -> None:
    """Both rewrite a generation; vectors must stay with their ids."""
    direction = np.eye(8, dtype=np.float32)
    with IndexWriter(two, SPACE) as writer:
        writer.build([Item(id="x"), Item(id="y"), Item(id="z")], direction[:3], None)
        writer.add([Item(id="y", metadata={"new": True}), Item(id="w")], direction[[5, 6]], None)
        writer.remove(["x"])
    reader = IndexReader.open(two, SPACE)
    assert ids(reader) == ["z", "y", "w"]
    for item_id, row in (("z", 2), ("y", 5), ("w", 6)):
        assert reader.search(direction[row], 1)[0].item.id == item_id
    assert reader.get("y") == Item(id="y", metadata={"new": True})


def test_removing_an_unknown_id_changes_nothing(two: Path) -> None:
    """A typing error must not silently remove the rest of the list."""
    with IndexWriter(two, SPACE) as writer, pytest.raises(InvalidInputError, match="nope"):
        writer.remove(["b0", "nope"])
    assert ids(IndexReader.open(two)) == ["b0", "b1", "b2", "b3", "b4"]


def test_an_index_may_become_empty(two: Path) -> None:
    """Removing the last item leaves an index that answers with nothing, and that can be filled again."""
    with IndexWriter(two, SPACE) as writer:
        writer.remove([f"b{n}" for n in range(5)])
        assert IndexReader.open(two, SPACE).search(np.ones(8, np.float32), 3) == []
        writer.add([Item(id="again")], np.ones((1, 8), np.float32), None)
    assert ids(IndexReader.open(two, SPACE)) == ["again"]


@pytest.mark.parametrize("row", [np.zeros(8), np.full(8, np.nan), np.full(8, np.inf)])
def test_a_vector_without_direction_is_refused(tmp_path: Path, row: np.ndarray) -> None:
    """It would match nothing, or everything, for ever."""
    with IndexWriter(tmp_path, SPACE) as writer, pytest.raises(InvalidInputError, match="Row 0"):
        writer.build([Item(id="a")], row[None].astype(np.float32), None)


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    """An id names one item; the failed generation must not be committed."""
    with IndexWriter(tmp_path, SPACE) as writer, pytest.raises(InvalidInputError, match="same id"):
        writer.build([Item(id="a"), Item(id="a")], np.ones((2, 8), np.float32), None)
    with pytest.raises(BundleError, match="no index"):
        IndexReader.open(tmp_path)


def test_generations_are_never_overwritten_and_two_are_kept(two: Path) -> None:
    """The one before the committed one is what a damaged index falls back on."""
    assert generations(two) == ["gen-000001", "gen-000002"]
    write(two, "c", 3)
    assert generations(two) == ["gen-000002", "gen-000003"]


def test_another_model_is_refused_with_advice(two: Path) -> None:
    """Scores between two embedding spaces look plausible and mean nothing."""
    with pytest.raises(BundleError, match="another model.*vlkd index migrate"):
        IndexReader.open(two, "cd" * 32)


def test_a_second_writer_fails_at_once_and_names_the_first(two: Path) -> None:
    """Two writers would both commit generation 3."""
    with IndexWriter(two, SPACE), pytest.raises(IndexLockedError, match=f"process {os.getpid()}"):
        with IndexWriter(two, SPACE):
            pytest.fail("a second writer got the lock")
    with IndexWriter(two, SPACE) as writer:
        writer.remove(["b0"])


@pytest.mark.parametrize("name", ["vectors.faiss", "items.sqlite"])
def test_every_truncation_and_flip_is_noticed(two: Path, name: str) -> None:
    """A damaged file is never served: the generation before is, and says so."""
    path = two / "gen-000002" / name
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [good[:size] for size in range(0, len(good), max(64, len(good) // 40))]
    for position in rng.integers(0, len(good), size=40):
        flipped = bytearray(good)
        flipped[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        reader = IndexReader.open(two, SPACE)
        assert ids(reader) == ["a0", "a1", "a2", "a3"]
        assert reader.degraded is not None and name in reader.degraded and "Generation 1" in reader.degraded
        reader.close()
    path.write_bytes(good)
    assert IndexReader.open(two, SPACE).degraded is None


def test_a_damaged_manifest_falls_back(two: Path) -> None:
    """Any flipped byte of MANIFEST, and MANIFEST gone."""
    path = two / "MANIFEST"
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        flipped = bytearray(good)
        flipped[position] ^= 4
        path.write_bytes(bytes(flipped))
        reader = IndexReader.open(two)
        assert (ids(reader)[0], reader.degraded is not None) == ("a0", True) or path.read_bytes() == good
    path.unlink()
    assert IndexReader.open(two).degraded is not None


def test_both_generations_damaged_is_an_error(two: Path) -> None:
    """Unverified data is never served, even where nothing else is left."""
    for folder in generations(two):
        (two / folder / "vectors.faiss").write_bytes(b"")
    with pytest.raises(IndexCorruptError, match="vectors.faiss"):
        IndexReader.open(two)


def test_a_degraded_index_cannot_be_changed(two: Path) -> None:
    """Adding to the older generation would silently drop what the damaged one had."""
    (two / "gen-000002" / "vectors.faiss").write_bytes(b"")
    with IndexWriter(two, SPACE) as writer, pytest.raises(BundleError, match="damaged"):
        writer.add([Item(id="n")], np.ones((1, 8), np.float32), None)
    write(two, "c", 2)
    assert ids(IndexReader.open(two)) == ["c0", "c1"]


def test_live_index_follows_and_never_goes_back(two: Path) -> None:
    """A server swaps to a new generation, keeps the present one when the new one is damaged, and recovers."""
    live = LiveIndex(two, SPACE)
    assert live.refresh() is False
    write(two, "c", 3)
    assert live.refresh() is True and ids(live.current) == ["c0", "c1", "c2"]
    write(two, "d", 2)
    (two / "gen-000004" / "items.sqlite").write_bytes(b"damage")
    assert live.refresh() is False and ids(live.current) == ["c0", "c1", "c2"]
    assert live.degraded is not None and "items.sqlite" in live.degraded
    write(two, "e", 1)
    assert live.refresh() is True and live.degraded is None and ids(live.current) == ["e0"]


def test_an_open_reader_outlives_its_files(two: Path) -> None:
    """Two more generations are committed and collected under a reader: its answers stay."""
    reader = IndexReader.open(two, SPACE)
    write(two, "c", 3)
    write(two, "d", 2)
    assert "gen-000002" not in generations(two)
    assert {hit.item.id for hit in reader.search(np.ones(8, np.float32), 5)} == {f"b{n}" for n in range(5)}
