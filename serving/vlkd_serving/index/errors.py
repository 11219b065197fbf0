"""What can go wrong with an index on disk."""

from __future__ import annotations

from vlkd_hub.errors import BundleError, InvalidInputError, VlkdError

__all__ = ["IndexCorruptError", "IndexLockedError", "IndexWriteError", "SpaceError", "WhereError", "WhereTimeoutError"]


class IndexCorruptError(BundleError):
    """A file of the index is missing, cut short, changed or not a plain file."""


class IndexLockedError(VlkdError):
    """Another process is writing this index."""


class IndexWriteError(VlkdError, OSError):
    """The disk refused a write (full, broken): what was acknowledged before is safe, this change is not made."""


class SpaceError(BundleError):
    """The index holds vectors of another embedding space than the one that was asked for."""


class WhereError(InvalidInputError):
    """A filter cannot be read; the message shows where it stops making sense."""


class WhereTimeoutError(WhereError):
    """A filter took longer than it may."""

    def __init__(
        self, message: str = "The filter takes too long on this index. Ask with fewer or simpler comparisons."
    ) -> None:
        super().__init__(message)
