"""What can go wrong with an index on disk."""

from __future__ import annotations

from vlkd_hub.errors import BundleError, VlkdError

__all__ = ["IndexCorruptError", "IndexLockedError"]


class IndexCorruptError(BundleError):
    """A file of the index is missing, cut short or changed: its size or SHA-256 is not the manifest's."""


class IndexLockedError(VlkdError):
    """Another process is writing this index."""
