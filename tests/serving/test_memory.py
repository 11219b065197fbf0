"""Free pages go back to the system."""

from __future__ import annotations

import platform

from vlkd_serving.memory import release_free_memory


def test_it_can_be_asked() -> None:
    """glibc knows how; another C library is no error."""
    assert release_free_memory() is (platform.libc_ver()[0] == "glibc")
