"""What loading a model leaves behind: free pages for the system, and objects that the collector need not visit."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["collector_passes_over", "collector_sees_again", "release_free_memory"]


def release_free_memory() -> bool:
    """Ask the C library to return its free pages: loading leaves some 20 MB of them. Returns whether it could be asked.

    Only glibc knows how; elsewhere nothing happens.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False
    return True


def collector_passes_over() -> None:
    """Let the collector of cycles pass over everything that is there now: modules, routes, models.

    It would visit all of them again and again while requests are served; docs/results/serving.md has what that cost.
    """
    gc.collect()
    gc.freeze()


def collector_sees_again() -> None:
    """Take :func:`collector_passes_over` back, so that a model that is dropped is freed."""
    gc.unfreeze()
