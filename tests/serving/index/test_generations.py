"""The promises of the index on disk: one commit point, verified reads, one writer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
    with pytest.raises(BundleError, match="another model.*vlkd index build"):
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


KILL = textwrap.dedent(
    """
    import os, shutil, sys, numpy as np
    from vlkd_serving.index import IndexWriter, Item, fsio
    from vlkd_serving.index import vectors as vectors_module, writer as writer_module

    directory, stop = sys.argv[1], int(sys.argv[2])
    steps = 0

    def guarded(function, cut=None):
        def call(*args, **options):
            global steps
            steps += 1
            if steps == stop:
                if cut is not None:
                    cut(*args)
                os._exit(9)
            return function(*args, **options)
        return call

    def half(path, content):
        path.write_bytes(content[: len(content) // 2])

    fsio.write_bytes = guarded(fsio.write_bytes, half)
    for name in ("fsync_file", "fsync_dir", "replace"):
        setattr(fsio, name, guarded(getattr(fsio, name)))
    writer_module.write_items = guarded(writer_module.write_items)
    vectors_module.FlatVectors.write = guarded(vectors_module.FlatVectors.write)
    shutil.rmtree = guarded(shutil.rmtree)
    with IndexWriter(directory, "ab" * 32) as writer:
        writer.build([Item(id=f"c{n}") for n in range(6)], np.eye(8, dtype=np.float32)[:6], None)
    print("committed", steps)
    """
)


def test_killed_at_any_step_leaves_exactly_the_old_or_the_new(tmp_path: Path) -> None:
    """A process that dies between any two durable operations: the index opens, whole, and can be written again."""
    outcomes = []
    for stop in range(1, 100):
        directory = tmp_path / f"kill-{stop}"
        write(directory, "a", 4)
        write(directory, "b", 5)
        done = subprocess.run([sys.executable, "-c", KILL, str(directory), str(stop)], capture_output=True, text=True)
        reader = IndexReader.open(directory, SPACE)
        assert reader.degraded is None
        assert ids(reader) in ([f"b{n}" for n in range(5)], [f"c{n}" for n in range(6)])
        outcomes.append(ids(reader)[0])
        reader.close()
        write(directory, "d", 2)
        assert ids(IndexReader.open(directory, SPACE)) == ["d0", "d1"]
        if done.returncode == 0:
            assert "committed" in done.stdout
            break
        assert done.returncode == 9, done.stderr
    assert outcomes == sorted(outcomes) and {"b0", "c0"} == set(outcomes) and len(outcomes) > 10


def test_no_space_leaves_the_old_generation(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while the manifest is written: an error for the writer, nothing for the readers."""
    from vlkd_serving.index import fsio

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fsio, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write(two, "c", 6)
    assert ids(IndexReader.open(two, SPACE)) == [f"b{n}" for n in range(5)]


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


def test_readers_see_one_generation_while_a_writer_publishes(tmp_path: Path) -> None:
    """8 threads search while 25 generations are committed: every answer is the exact one of a single generation."""
    vectors = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)
    query = np.ones(8, np.float32)
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)

    def publish(number: int) -> None:
        with IndexWriter(tmp_path, SPACE) as writer:
            writer.build([Item(id=f"{number}:{row}") for row in range(64)], np.roll(vectors, number, axis=0), None)

    publish(0)
    live = LiveIndex(tmp_path, SPACE)
    seen: set[int] = set()
    done = threading.Event()

    def read() -> int:
        count = 0
        while not done.is_set() or count == 0:
            hits = live.current.search(query, 10)
            number = int(hits[0].item.id.split(":")[0])
            best = np.argsort(-np.roll(cosine, number))[:10]
            assert [hit.item.id for hit in hits] == [f"{number}:{row}" for row in best]
            seen.add(number)
            count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        try:
            for number in range(1, 26):
                publish(number)
                assert live.refresh()
                time.sleep(0.02)
        finally:
            done.set()
        assert sum(reader.result() for reader in readers) > 100
    assert live.degraded is None and len(seen) > 10
