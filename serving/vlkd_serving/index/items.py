"""Items of an index: the user's ids, picture paths and metadata, row by row, in a SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlkd_hub.errors import InvalidInputError

__all__ = ["Item", "ItemStore", "write_items"]

_SCHEMA = "CREATE TABLE items (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, path TEXT, metadata TEXT NOT NULL)"
_MAX_ID_CHARS = 1024


@dataclass(frozen=True, kw_only=True)
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
        if not self.id or len(self.id) > _MAX_ID_CHARS or "\x00" in self.id:
            raise InvalidInputError(
                f"An id must have 1 to {_MAX_ID_CHARS} characters and no NUL, got {self.id[:80]!r}."
            )


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write items to a new SQLite file; the n-th item gets row n, its vector's position.

    Raises:
        InvalidInputError: an id occurs twice.
    """
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(_SCHEMA)
        rows = ((row, item.id, item.path, json.dumps(item.metadata)) for row, item in enumerate(items))
        connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    except sqlite3.IntegrityError:
        raise InvalidInputError("Two items of the index have the same id; ids must be unique.") from None
    finally:
        connection.close()


class ItemStore:
    """Read-only access to a committed items file; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        self._lock = threading.Lock()

    def rows(self, rows: Sequence[int]) -> list[Item]:
        """The items at the given rows, in that order."""
        marks = ",".join("?" * len(rows))
        found = {int(row): item for row, item in self._select(f"WHERE row IN ({marks})", tuple(rows))}
        return [found[row] for row in rows]

    def get(self, item_id: str) -> Item | None:
        """The item with this id, or None."""
        found = self._select("WHERE id = ?", (item_id,))
        return found[0][1] if found else None

    def all(self) -> list[Item]:
        """Every item in row order."""
        return [item for _, item in self._select("ORDER BY row", ())]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _select(self, clause: str, values: tuple[object, ...]) -> list[tuple[int, Item]]:
        with self._lock:
            records = self._connection.execute(f"SELECT row, id, path, metadata FROM items {clause}", values).fetchall()
        return [(row, Item(id=id_, path=path, metadata=json.loads(text))) for row, id_, path, text in records]
