"""Give back to the system what loading a model left behind."""

from __future__ import annotations

import ctypes

__all__ = ["release_free_memory"]


def release_free_memory() -> bool:
    """Ask the C library to return its free pages: loading leaves some 20 MB of them. Returns whether it could be asked.

    Only glibc knows how; elsewhere nothing happens.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False
    return True
