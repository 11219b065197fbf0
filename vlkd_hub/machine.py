"""What this machine has: processor, memory, and the programs that some measures and tests call."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["CHROMIUM_NAMES", "describe_machine", "java_version"]

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# Names in /proc/cpuinfo of the instructions that decide how fast bf16 and int8 run.
FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "bf16"),
    "amx_bf16": ("amx_bf16",),
    "amx_int8": ("amx_int8",),
    "i8mm": ("i8mm",),
}


def describe_machine() -> dict[str, Any]:
    """Facts of this machine that need no package: each is None where the system does not tell."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "features": cpu_features(),
        "memory_gib": _memory_gib(),
        "load_average": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "gpus": _gpus(),
        "nvidia_driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        "java": java_version(),
        "chromium": next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None),
    }


def cpu_features(cpuinfo: str | None = None) -> list[str] | None:
    """Which of ``FEATURES`` the processor has; None where the system does not tell.

    Args:
        cpuinfo: text of /proc/cpuinfo; read from there if None.
    """
    text = _read("/proc/cpuinfo") if cpuinfo is None else cpuinfo
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if match is None:
        return None
    flags = set(match.group(1).split())
    return [name for name, spellings in FEATURES.items() if flags.intersection(spellings)]


def java_version() -> str | None:
    """First line of ``java -version``; None without Java."""
    return _output(["java", "-version"])


def _gpus() -> list[str]:
    """Name and memory of each GPU that the NVIDIA driver shows; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _cpu_name() -> str | None:
    match = re.search(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return match.group(1) if match else platform.processor() or None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1)
    except (AttributeError, OSError, ValueError):
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(command: list[str]) -> str | None:
    """First line that ``command`` prints on either stream; None if it is absent or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else None
