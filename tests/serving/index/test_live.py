"""Changes while it is searched: the log, compaction, and readers that always see one state."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_serving.index import Budget, IndexLockedError, IndexReader, IndexWriter, Item, LiveIndex, LiveWriter
from vlkd_serving.index import generation as generation_module
from vlkd_serving.index import live_writer as live_writer_module
from vlkd_serving.index.live_writer import CompactionPolicy

SPACE, D = "ab" * 32, 16
RACE_S = float(os.environ.get("VLKD_RACE_SECONDS", "20"))
READERS = 16


def base(directory: Path, count: int = 50, budget: Budget | None = None) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(count, D)).astype(np.float32)
    with IndexWriter(directory, SPACE) as writer:
        writer.build([Item(id=f"i{n}", metadata={"v": 0}) for n in range(count)], vectors, None, budget=budget)
    return vectors


def test_put_replace_remove(tmp_path: Path) -> None:
    """Found at once, by a follower in another object as well; a reader that was open keeps its state."""
    base(tmp_path)
    follower, before = LiveIndex(tmp_path, SPACE), IndexReader.open(tmp_path, SPACE)
    directions = np.eye(D, dtype=np.float32)
    with LiveWriter(tmp_path) as writer:
        assert writer.put([Item(id="new"), Item(id="i3", metadata={"v": 1})], directions[:2]) == 2
        assert writer.remove(["i4", "i5"]) == 3
        assert writer.put([Item(id="i4", metadata={"v": 2})], directions[2:3]) == 4
        now = writer.live.current
    assert follower.refresh() and not follower.refresh()
    for reader in (now, follower.current, IndexReader.open(tmp_path)):
        assert (len(reader), reader.sequence, reader.manifest.generation) == (50, 4, 1)
        assert [reader.search(directions[n], 1)[0].item.id for n in range(3)] == ["new", "i3", "i4"]
        assert reader.get("i5") is None and reader.get("i4") == Item(id="i4", metadata={"v": 2})
        assert len(reader.items()) == len(reader.vectors()) == len({item.id for item in reader.items()}) == 50
        assert {hit.item.id for hit in reader.search(directions[0], 50)} == {item.id for item in reader.items()}
        assert [i for i, _ in reader.search_ids(directions[:1], 3)[0]] == [
            hit.item.id for hit in reader.search(directions[0], 3)
        ]
    assert len(before) == 50 and before.get("new") is None and before.get("i5") is not None


def test_a_view_stays_as_it_is(tmp_path: Path) -> None:
    """Taken between two changes of the same follower: the later one does not show in it."""
    base(tmp_path)
    with LiveWriter(tmp_path) as writer:
        writer.remove(["i1"])
        writer.put([Item(id="a")], np.ones((1, D)))
        view = writer.live.current
        writer.remove(["i2", "a"])
        writer.put([Item(id="i3", metadata={"v": 1})], np.ones((1, D)))
        now = writer.live.current
    assert (len(view), len(now)) == (50, 48)
    assert view.get("a") is not None and view.get("i2") is not None and view.get("i3").metadata == {"v": 0}
    found = {hit.item.id for hit in view.search(np.ones(D, np.float32), 50)}
    assert found == {item.id for item in view.items()} and {"a", "i2"} <= found
    assert now.get("a") is None and now.get("i2") is None


@pytest.mark.parametrize("budget", [Budget(), Budget(kind="ivf", recall=0.9), Budget(codec="binary")])
def test_compaction_keeps_the_content(tmp_path: Path, budget: Budget) -> None:
    """The same items and vectors in a new generation; the log it holds is cleared once two generations hold it."""
    base(tmp_path, 300, budget)
    with LiveWriter(tmp_path) as writer:
        for turn in range(3):
            writer.put([Item(id=f"t{turn}")], np.ones((1, D), np.float32) * (turn - 5))
            writer.remove([f"i{turn}"])
            before = writer.live.current
            manifest = writer.compact()
            after = writer.live.current
            assert (manifest.generation, after.sequence) == (turn + 2, before.sequence)
            assert [item.id for item in after.items()] == [item.id for item in before.items()]
            np.testing.assert_allclose(after.vectors(), before.vectors(), atol=2e-3)
            assert after.delta.empty and not before.delta.empty
    assert len(list(tmp_path.glob("wal-*.log"))) == 2
    assert sorted(path.name for path in tmp_path.glob("gen-*")) == ["gen-000003", "gen-000004"]


def test_a_damaged_newest_generation_loses_nothing(tmp_path: Path) -> None:
    """The generation before it and its log are the same content."""
    base(tmp_path)
    with LiveWriter(tmp_path) as writer:
        writer.put([Item(id="a")], np.ones((1, D), np.float32))
        manifest = writer.compact()
        writer.put([Item(id="b")], np.ones((1, D), np.float32))
        expected = {item.id for item in writer.live.current.items()}
    (tmp_path / manifest.folder / "vectors.faiss").write_bytes(b"")
    reader = IndexReader.open(tmp_path, SPACE)
    assert reader.degraded is not None and {item.id for item in reader.items()} == expected
    with pytest.raises(BundleError, match="damaged"), LiveWriter(tmp_path):
        pytest.fail("a damaged index took changes")


def test_compaction_runs_beside_changes(tmp_path: Path) -> None:
    """Begun by the policy, in the background; changes made meanwhile stay in the log after it."""
    base(tmp_path)
    policy = CompactionPolicy(rows=5, least=5)
    with LiveWriter(tmp_path, policy) as writer:
        for n in range(40):
            writer.put([Item(id=f"n{n}")], np.random.default_rng(n).normal(size=(1, D)))
        writer.wait()
        assert writer.problem is None and writer.live.current.manifest.generation > 1
    reader = IndexReader.open(tmp_path, SPACE)
    assert len(reader) == 90 and reader.sequence == 41


def test_changes_go_on_while_a_new_generation_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and hashing all its files takes long where it is large; that is done once, and nobody waits for it."""
    base(tmp_path)
    verify, seen = generation_module._verify, []

    def slow_verify(folder: Path, manifest: object) -> None:
        seen.append((folder.name, pool.submit(writer.put, [Item(id="meanwhile")], np.ones((1, D))).result(10)))
        verify(folder, manifest)

    with ThreadPoolExecutor(1) as pool, LiveWriter(tmp_path) as writer:
        writer.put([Item(id="before")], np.ones((1, D)))
        monkeypatch.setattr(generation_module, "_verify", slow_verify)
        writer.compact()
        now = writer.live.current
    assert seen == [("gen-000002", 3)]
    assert (now.manifest.generation, now.manifest.sequence, now.sequence, len(now)) == (2, 2, 3, 52)


def test_closing_ends_a_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops has seconds, a compaction of a large index takes more; what it held is in the log."""
    base(tmp_path)
    items, begun = IndexReader.iter_items, threading.Event()

    def slow_items(self: IndexReader) -> Iterator[Item]:
        for item in items(self):
            begun.set()
            time.sleep(0.2)
            yield item

    monkeypatch.setattr(IndexReader, "iter_items", slow_items)
    with LiveWriter(tmp_path) as writer:
        writer.put([Item(id="new")], np.ones((1, D)))
        writer.compact_in_background()
        assert begun.wait(30)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5 and writer.problem is None
    assert [path.name for path in tmp_path.glob("gen-*")] == ["gen-000001"]
    monkeypatch.undo()
    with LiveWriter(tmp_path) as writer:
        assert writer.compact().ntotal == 51


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("of FAISS"), OSError(28, "No space left on device")])
def test_a_compaction_that_fails_is_told_and_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Not with every change; changes and searches go on, and what was written is no rubbish on the disk."""
    base(tmp_path)
    tried, told = [], []

    def fail(*_: object) -> None:
        tried.append(time.monotonic())
        raise error

    monkeypatch.setattr("vlkd_serving.index.commit._write_files", fail)
    monkeypatch.setattr(live_writer_module, "RETRY_S", 0.5)
    with LiveWriter(tmp_path, CompactionPolicy(rows=1, least=1)) as writer:
        writer.on_failure = lambda: told.append(writer.problem)
        number = 0
        while len(tried) < 3:
            number += 1
            writer.put([Item(id=f"n{number}")], np.ones((1, D)))
            writer.wait()
        assert tried[1] - tried[0] >= 0.5 and tried[2] - tried[1] >= 1.0
        assert len(told) == 3 and writer.problem == told[-1] and "failed" in caplog.text
        assert len(writer.live.current) == 50 + number and writer.live.degraded is None
        assert [path.name for path in tmp_path.glob("gen-*")] == ["gen-000001"]
        monkeypatch.undo()
        writer.compact_in_background()
        writer.wait()
        assert writer.problem is None and writer.live.current.manifest.generation == 2


def test_what_cannot_be_put(tmp_path: Path) -> None:
    """Told before anything is written."""
    base(tmp_path)
    one = np.ones((1, D), np.float32)
    with LiveWriter(tmp_path) as writer:
        for items, vectors, message in [
            ([Item(id="a")], np.ones((1, 3)), "holds 16 values"),
            ([Item(id="a")], np.ones((2, D)), "one vector"),
            ([Item(id="a")], 0 * one, "Row 0"),
            ([Item(id="a", metadata={"x": {1, 2}})], one, "JSON"),
            ([Item(id="a", metadata={"x": float("nan")})], one, "JSON"),
        ]:
            with pytest.raises(InvalidInputError, match=message):
                writer.put(items, vectors)
        with pytest.raises(InvalidInputError, match="nope"):
            writer.remove(["i1", "nope"])
        with pytest.raises(IndexLockedError), LiveWriter(tmp_path):
            pytest.fail("a second writer got the lock")
        assert (writer.live.current.sequence, len(writer.live.current)) == (1, 50)


def test_readers_always_see_one_state(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """16 readers and a writer that puts, removes and compacts: each answer is one state's exact answer.

    20 seconds by default, longer where a busy machine shows them few states; `make nightly` sets VLKD_RACE_SECONDS=600.
    """
    vectors = base(tmp_path, 400)
    content = {f"i{n}": vector / np.linalg.norm(vector) for n, vector in enumerate(vectors)}
    queries = np.random.default_rng(9).normal(size=(4, D)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    expected: dict[int, list[list[str]]] = {}

    def expect(sequence: int) -> None:
        ids, rows = list(content), np.stack(list(content.values()))
        expected[sequence] = [[ids[n] for n in np.argsort(-(rows @ query))[:10]] for query in queries]

    live, done = LiveIndex(tmp_path, SPACE), threading.Event()
    expect(live.current.sequence)
    seen: set[int] = set()

    def read(number: int) -> int:
        asked = 0
        while not done.is_set():
            view, query = live.current, (asked + number) % len(queries)
            hits = view.search(queries[query], 10)
            assert [hit.item.id for hit in hits] == expected[view.sequence][query], view.sequence
            seen.add(view.sequence)
            asked += 1
        return asked

    rng, begin, turn = np.random.default_rng(1), time.monotonic(), 0
    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read, number) for number in range(READERS)]
        try:
            while not any(reader.done() for reader in readers):
                took = time.monotonic() - begin
                if took > 6 * RACE_S or (took > RACE_S and len(seen) > 5):
                    break
                turn += 1
                _change(live, content, turn, rng, expect)
        finally:
            done.set()
        answers = sum(reader.result() for reader in readers)
    record_property("answers", answers)
    record_property("states_seen", len(seen))
    assert live.degraded is None and answers > 100 and len(seen) > 5, (answers, len(seen))


def _change(
    live: LiveIndex, content: dict[str, np.ndarray], turn: int, rng: np.random.Generator, expect: Callable[[int], None]
) -> None:
    """One change; what it must lead to is written down before anyone can see it."""
    sequence = live.current.sequence + 1
    with LiveWriter(live) as writer:
        if turn % 10 == 9:
            writer.compact()
            return
        if turn % 3 == 0:
            gone = [str(i) for i in rng.choice(list(content), size=3, replace=False)]
            for item_id in gone:
                del content[item_id]
            expect(sequence)
            assert writer.remove(gone) == sequence
            return
        rows = rng.normal(size=(4, D)).astype(np.float32)
        ids = [f"t{turn}-{n}" for n in range(3)] + [str(rng.choice(list(content)))]
        content.update({i: row / np.linalg.norm(row) for i, row in zip(ids, rows, strict=True)})
        expect(sequence)
        assert writer.put([Item(id=item_id) for item_id in ids], rows) == sequence
