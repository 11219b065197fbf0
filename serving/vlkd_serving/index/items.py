"""Items of an index: the user's ids, picture paths and metadata, row by row, in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.index import fsio
from vlkd_serving.index.errors import IndexCorruptError, WhereError, WhereTimeoutError
from vlkd_serving.index.where import Condition

__all__ = ["SCHEMA_VERSION", "Item", "ItemStore", "metadata_json", "write_items"]

SCHEMA_VERSION = 2
_CREATE = "CREATE TABLE items (row INTEGER PRIMARY KEY, id TEXT NOT NULL {unique}, path TEXT, metadata TEXT NOT NULL)"
_INSERT = "INSERT INTO items VALUES (?, ?, ?, ?)"
_MAX_ID_CHARS = 1024
_MAX_METADATA_BYTES = 1 << 20
_MAX_METADATA_DEPTH = 64
_MOST_MARKS = 500
_LOOK_EVERY = 20_000
"""Steps of SQLite's machine, about a millisecond, between two looks at the clock."""
_SET_UP = "SELECT 1 FROM json_each('[]')"
"""SQLite sets json_each up at its first use, which is no read."""
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One entry of an index.

    Args:
        id: the user's own string, unique in the index.
        path: picture file, relative to the index's image root, or None.
        metadata: anything JSON can hold: captions, class, a product number.
    """

    id: str
    path: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > _MAX_ID_CHARS or "\x00" in self.id or not _is_text(self.id):
            raise InvalidInputError(
                f"An id must be text of 1 to {_MAX_ID_CHARS} characters without NUL, got {self.id[:80]!r}."
            )


def metadata_json(item: Item) -> str:
    """An item's metadata as the text that is stored.

    Raises:
        InvalidInputError: something JSON cannot hold, NaN, half a surrogate pair, more than 1 MiB, or more than 64
            levels deep: no answer could carry it.
    """
    try:
        text = json.dumps(item.metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInputError(f"The metadata of {item.id!r} holds something that JSON cannot.") from None
    if len(text) > _MAX_METADATA_BYTES:
        raise InvalidInputError(f"The metadata of {item.id!r} has more than {_MAX_METADATA_BYTES >> 20} MiB.")
    if "\\ud" in text and not _is_text(json.dumps(item.metadata, ensure_ascii=False)):
        raise InvalidInputError(f"The metadata of {item.id!r} holds half a surrogate pair: it is no Unicode text.")
    if text.count("{") + text.count("[") > _MAX_METADATA_DEPTH and _is_deeper(item.metadata, _MAX_METADATA_DEPTH):
        raise InvalidInputError(f"The metadata of {item.id!r} is more than {_MAX_METADATA_DEPTH} levels deep.")
    return text


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects stand in one another more than so many levels deep."""
    level = [value]
    for _ in range(levels):
        inner = (each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer))
        level = [each for each in inner if isinstance(each, dict | list | tuple)]
    return bool(level)


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write items to a new SQLite file and force it to the disk; the n-th item gets row n, its vector's position.

    Raises:
        InvalidInputError: an id occurs twice.
    """
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(_CREATE.format(unique="UNIQUE"))
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        rows = ((row, item.id, item.path, metadata_json(item)) for row, item in enumerate(items))
        connection.executemany(_INSERT, rows)
        connection.commit()
        with fsio.DurableFile(path) as handle:
            handle.write(connection.serialize())
            handle.sync()
    except sqlite3.IntegrityError:
        raise InvalidInputError("Two items of the index have the same id; ids must be unique.") from None
    finally:
        connection.close()


class ItemStore:
    """Items by row or id; safe to use from several threads.

    Of a file, each thread that reads has a connection for itself meanwhile: a long filter keeps no other waiting. A
    connection may read the table of items and nothing else: SQLite itself refuses any other statement.

    Args:
        connection: the first one.
        name: for errors.
        another: opens one more; None: there is one for all.
    """

    def __init__(
        self, connection: sqlite3.Connection, name: str, another: Callable[[], sqlite3.Connection] | None = None
    ) -> None:
        self._name = name
        self._another = another
        self._free = [connection]
        self._returned = threading.Condition()

    @classmethod
    def read(cls, path: Path) -> ItemStore:
        """Open a committed file, read-only."""
        connection = _connect(path)
        store = cls(connection, str(path), lambda: _restricted(_connect(path)))
        version = store._run("PRAGMA user_version", ())[0][0]
        if version not in (0, SCHEMA_VERSION):  # 0: written by format 1
            raise IndexCorruptError(f"{path} has the schema version {version}; this version reads {SCHEMA_VERSION}.")
        store._run(_SET_UP, ())
        connection.set_authorizer(_authorise)
        return store

    @classmethod
    def in_memory(cls) -> ItemStore:
        """An empty store that :meth:`append` fills; an id may occur more than once."""
        connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.execute(_CREATE.format(unique=""))
        connection.execute("CREATE INDEX items_id ON items (id)")
        return cls(connection, "the log")

    def append(self, row: int, items: Sequence[Item]) -> None:
        """Add items of an in-memory store from a row on."""
        values = [(row + n, item.id, item.path, metadata_json(item)) for n, item in enumerate(items)]
        connection = self._take()
        try:
            connection.executemany(_INSERT, values)
        finally:
            self._give_back(connection)

    def rows(self, rows: Sequence[int]) -> list[Item]:
        """The items at the given rows, in that order."""
        found: dict[int, Item] = {}
        for start in range(0, len(rows), _MOST_MARKS):
            part = tuple(rows[start : start + _MOST_MARKS])
            found |= dict(self._items(f"WHERE row IN ({','.join('?' * len(part))})", part))
        try:
            return [found[row] for row in rows]
        except KeyError as error:
            raise IndexCorruptError(f"{self._name} has no item for row {error}.") from None

    def row_of(self, item_id: str) -> int | None:
        """The row of an id, or None."""
        found = self._run("SELECT row FROM items WHERE id = ?", (item_id,))
        return int(found[0][0]) if found else None

    def last_row_of(self, item_id: str, before: int) -> int | None:
        """The last row of an id below a row, or None; for a store in memory, where an id may occur again."""
        found = self._run("SELECT max(row) FROM items WHERE id = ? AND row < ?", (item_id, before))
        return None if found[0][0] is None else int(found[0][0])

    def matching(self, condition: Condition) -> NDArray[np.int64]:
        """The rows that a filter lets through, rising.

        Raises:
            WhereError: SQLite cannot apply it.
            WhereTimeoutError: not in the time that it has.
        """
        sql = f"SELECT row FROM items WHERE {condition.sql} ORDER BY row"
        try:
            found = self._run(sql, condition.values, condition.until)
        except sqlite3.Error as error:
            if condition.seconds_left == 0:
                raise WhereTimeoutError from None
            raise WhereError(f"The filter cannot be applied: {error}.") from None
        return np.fromiter((row for (row,) in found), dtype=np.int64, count=len(found))

    def all(self, batch: int = 4096) -> Iterator[tuple[int, Item]]:
        """Every item with its row, in row order."""
        row = -1
        while found := self._items("WHERE row > ? ORDER BY row LIMIT ?", (row, batch)):
            yield from found
            row = found[-1][0]

    def count(self) -> int:
        """How many items there are."""
        return int(self._run("SELECT count(*) FROM items", ())[0][0])

    def close(self) -> None:
        """Close the file; nobody may be reading."""
        with self._returned:
            for connection in self._free:
                connection.close()

    def __del__(self) -> None:
        for connection in self._free:
            connection.close()

    def _items(self, clause: str, values: tuple[object, ...]) -> list[tuple[int, Item]]:
        records = self._run(f"SELECT row, id, path, metadata FROM items {clause}", values)
        try:
            return [(row, Item(id=id_, path=path, metadata=json.loads(text))) for row, id_, path, text in records]
        except (ValueError, TypeError):
            raise IndexCorruptError(f"{self._name} holds an item that cannot be read.") from None

    def _run(self, sql: str, values: tuple[object, ...], until: float | None = None) -> list[tuple[Any, ...]]:
        connection = self._take()
        try:
            if until is not None:
                connection.set_progress_handler(lambda: time.monotonic() >= until, _LOOK_EVERY)
            return connection.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError):
                raise
            raise IndexCorruptError(f"{self._name} is not a table of items: {error}.") from None
        finally:
            if until is not None:
                connection.set_progress_handler(None, 0)
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        """A connection that nobody uses: a free one, a new one, or the next that is given back."""
        with self._returned:
            if not self._free and self._another is not None:
                try:
                    return self._another()
                except sqlite3.OperationalError:
                    pass  # a writer removed the file: what is open already still reads it
            self._returned.wait_for(lambda: self._free)
            return self._free.pop()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._returned:
            self._free.append(connection)
            self._returned.notify()


def _connect(path: Path) -> sqlite3.Connection:
    """Open a committed file, read-only."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, check_same_thread=False)


def _restricted(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, which from now on may only read the table of items."""
    connection.execute(_SET_UP).fetchall()
    connection.set_authorizer(_authorise)
    return connection


def _authorise(action: int, first: str | None, *rest: object) -> int:
    reads_other_table = action == sqlite3.SQLITE_READ and first not in ("items", "json_each")
    allowed = action in _ALLOWED and not reads_other_table
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
