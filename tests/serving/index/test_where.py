"""Filters: what they mean, what they refuse, and that nothing of the user's ever becomes SQL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vlkd_serving.index import IndexReader, IndexWriter, Item, LiveWriter, WhereError
from vlkd_serving.index.items import ItemStore
from vlkd_serving.index.where import Condition, parse_where

ROWS = [
    {"class": "beach", "n": 1, "tags": ["sun", "sea"], "a": {"b": "x"}},
    {"class": "city", "n": 2, "tags": [], "open": True},
    {"class": "beach", "n": 3.5, "open": False, "odd name": 7},
    {"class": "it's", "n": -4},
    {"n": 10},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows in the generation, two in the log."""
    directory = tmp_path_factory.mktemp("where")
    items = [Item(id=f"i{n}", path=f"p/{n}.jpg", metadata=row) for n, row in enumerate(ROWS)]
    vectors = np.eye(8, dtype=np.float32)
    with IndexWriter(directory, "ab" * 32) as writer:
        writer.build(items[:3], vectors[:3], directory)
    with LiveWriter(directory) as live:
        live.put(items[3:], vectors[3:5])
    return directory


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("class = 'beach'", "02"),
        ("class != 'beach'", "13"),
        ("NOT class = 'beach'", "13"),
        ("class IS NULL", "4"),
        ("class is not null and n >= 2", "12"),
        ("n IN (1, 2, 10)", "014"),
        ("n not in (1, 2)", "234"),
        ("n < 0 OR n > 3", "234"),
        ("n = 1 OR n = 2 AND class = 'nothing'", "0"),
        ("(n = 1 OR n = 2) AND class = 'city'", "1"),
        ("class = 'it''s'", "3"),
        ("class LIKE 'b%'", "02"),
        ("class NOT LIKE '%i%'", "02"),
        ("tags CONTAINS 'sea'", "0"),
        ("NOT tags CONTAINS 'sea'", "1234"),
        ("open = TRUE", "1"),
        ("open = false", "2"),
        ('"odd name" = 7', "2"),
        ("a.b = 'x'", "0"),
        ("id = 'i3' OR path = 'p/0.jpg'", "03"),
        ("n = 3.5e0", "2"),
        ("n = -4", "3"),
    ],
)
def test_what_it_means(index: Path, where: str, rows: str) -> None:
    """In the generation and in the log alike."""
    reader = IndexReader.open(index)
    hits = reader.search(np.ones(8, np.float32), 10, where=where)
    assert sorted(hit.item.id[1:] for hit in hits) == list(rows)


@pytest.mark.parametrize(
    "where",
    [
        *(
            "",
            "class",
            "class =",
            "= 'x'",
            "class = beach",
            'class = "beach"',
            "class == 'x'",
            "n = 1; DROP TABLE items",
        ),
        *(
            "class = 'x' --",
            "1 = 1",
            "n = (SELECT 1)",
            "class = 'x' OR",
            "NOT",
            "(n = 1",
            "n = 1)",
            "n IN ()",
            "n IN (1,",
        ),
        *(
            "load_extension('x') = 1",
            "n LIKE 5",
            "id CONTAINS 'i'",
            "x\x00 = 1",
            "n = 'a\x00",
            '"a\\" = 1',
            "n = 99999999999999999999",
        ),
        "(" * 30 + "n = 1" + ")" * 30,
        "NOT " * 30 + "n = 1",
        " OR ".join(["n = 1"] * 101),
        "n = 1 OR " * 2000 + "n = 1",
    ],
)
def test_what_is_no_filter(index: Path, where: str) -> None:
    """One error that shows the place; never an error of SQLite's, never rows."""
    with pytest.raises(WhereError, match="filter"):
        IndexReader.open(index).search(np.ones(8, np.float32), 3, where=where)


@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", "'; DROP TABLE items; --", "\\' OR ''='", "%' OR '1'='1", "x') OR (1=1", "$.id", "?1"]
)
def test_values_and_names_are_never_sql(index: Path, text: str) -> None:
    """Whatever a value says, it is only compared; the SQL holds nothing but this project's own words."""
    quoted = text.replace("'", "''")
    condition = parse_where(f"class = '{quoted}' AND n != 5")
    assert condition.sql == "(((json_extract(metadata, ?) = ?) AND (json_extract(metadata, ?) != ?)))"
    assert condition.values == ('$."class"', text, '$."n"', 5)
    assert IndexReader.open(index).search(np.ones(8, np.float32), 3, where=f"class = '{quoted}'") == []


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM items",
        "UPDATE items SET id = 'x'",
        "ATTACH DATABASE ':memory:' AS other",
        "PRAGMA writable_schema = 1",
        "SELECT sql FROM sqlite_master",
        "CREATE TABLE x (y)",
    ],
)
def test_the_connection_may_only_read_items(index: Path, sql: str) -> None:
    """The second wall: even SQL that got through could not do this."""
    store = IndexReader.open(index).generation.items
    with pytest.raises((sqlite3.Error, Exception), match="not authorized|prohibited|readonly"):
        store._run(sql, ())
    assert store.count() == 3


LONG = " OR ".join(f"said LIKE '%{number}x%'" for number in range(90))
"""A filter that takes about a second on the rows of :func:`many`."""


@pytest.fixture
def many(tmp_path: Path) -> IndexReader:
    """Rows enough for a filter to take its time."""
    count = 3000
    said = "word " * 200
    with IndexWriter(tmp_path, "ab" * 32) as writer:
        items = [Item(id=f"i{n}", metadata={"said": said}) for n in range(count)]
        writer.build(items, np.random.default_rng(0).normal(size=(count, 8)), None)
    return IndexReader.open(tmp_path)


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], threading.Event]]:
    """The filters that were applied, and whether one has begun."""
    applied: list[str] = []
    begun = threading.Event()
    matching = ItemStore.matching

    def noted(self: ItemStore, condition: Condition) -> object:
        applied.append(condition.sql)
        begun.set()
        return matching(self, condition)

    monkeypatch.setattr(ItemStore, "matching", noted)
    yield applied, begun


def test_a_long_filter_keeps_nobody_waiting(many: IndexReader, scans: tuple[list[str], threading.Event]) -> None:
    """Others read items while it is applied; only where the file is gone do they wait for a connection."""
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(many.search, np.ones(8, np.float32), where=LONG)
        assert scans[1].wait(30)
        assert many.get("i7") is not None and not long.done()
        assert long.result() == []
    many.generation.items.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        many.get("i7")


def test_a_file_that_a_writer_removed_is_read_to_the_end(many: IndexReader) -> None:
    """By all threads, with what was open of it."""
    (many.directory / many.manifest.folder / "items.sqlite").unlink()
    with ThreadPoolExecutor(4) as pool:
        assert [item.id for item in pool.map(many.get, [f"i{n}" for n in range(200)])] == [f"i{n}" for n in range(200)]


def test_a_filter_ends_in_time(many: IndexReader) -> None:
    """And says so; the same one without a limit is applied as if nothing had been."""
    query = np.ones(8, np.float32)
    begin = time.monotonic()
    with pytest.raises(WhereError, match="takes too long"):
        many.search(query, where=LONG, until=begin + 0.002)
    cut = time.monotonic() - begin
    assert many.search(query, where=LONG) == [] and cut < time.monotonic() - begin - cut
    assert len(many.search(query, 3, where=f"NOT ({LONG})", until=time.monotonic() + 600)) == 3


def test_equal_filters_are_applied_once(many: IndexReader, scans: tuple[list[str], threading.Event]) -> None:
    """Those who ask while it is applied wait for it, each as long as it may."""
    query = np.ones(8, np.float32)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(many.search, query, where=LONG) for _ in range(2)]
        assert scans[1].wait(30)
        with pytest.raises(WhereError, match="takes too long"):
            many.search(query, where=LONG, until=time.monotonic())
        assert [each.result() for each in both] == [[], []]
    assert len([sql for sql in scans[0] if "LIKE" in sql]) == 1
