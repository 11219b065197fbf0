"""What a process holds in memory, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak_bytes", "resident_bytes"]


def peak_bytes() -> int:
    """The most memory that this process ever had resident, mapped files included."""
    return _status("VmHWM")


def resident_bytes() -> dict[str, int]:
    """Memory resident now: ``own``, and ``mapped`` (pages of files, which the system may drop)."""
    return {"own": _status("RssAnon"), "mapped": _status("RssFile")}


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status has no {field}: this needs Linux.")
