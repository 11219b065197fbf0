"""The image-text index: FAISS vectors, the user's own ids and metadata, generations on disk and a log between them."""

from __future__ import annotations

from vlkd_serving.index.errors import (
    IndexCorruptError,
    IndexLockedError,
    IndexWriteError,
    SpaceError,
    WhereError,
)
from vlkd_serving.index.items import Item
from vlkd_serving.index.live import LiveIndex
from vlkd_serving.index.live_writer import LiveWriter
from vlkd_serving.index.queries import mix
from vlkd_serving.index.reader import IndexReader
from vlkd_serving.index.roots import ImageRoot
from vlkd_serving.index.search import Hit
from vlkd_serving.index.spaces import QuerySpace
from vlkd_serving.index.spec import Budget
from vlkd_serving.index.writer import IndexWriter

__all__ = [
    "Budget",
    "Hit",
    "ImageRoot",
    "IndexCorruptError",
    "IndexLockedError",
    "IndexReader",
    "IndexWriteError",
    "IndexWriter",
    "Item",
    "LiveIndex",
    "LiveWriter",
    "QuerySpace",
    "SpaceError",
    "WhereError",
    "mix",
]
