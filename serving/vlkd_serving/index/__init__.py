"""The image-text index: FAISS vectors, the user's own ids and metadata, kept in generations on disk."""

from __future__ import annotations

from vlkd_serving.index.errors import IndexCorruptError, IndexLockedError
from vlkd_serving.index.items import Item
from vlkd_serving.index.live import LiveIndex
from vlkd_serving.index.reader import Hit, IndexReader
from vlkd_serving.index.writer import IndexWriter

__all__ = ["Hit", "IndexCorruptError", "IndexLockedError", "IndexReader", "IndexWriter", "Item", "LiveIndex"]
