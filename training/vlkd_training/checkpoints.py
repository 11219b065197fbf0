"""Checkpoints that are whole or not there at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

__all__ = ["MANIFEST", "STAGING", "commit", "last_checkpoint", "remove_checkpoints"]

MANIFEST = "checkpoint.json"
"""Size of every file of a checkpoint, written last."""
STAGING = "saving"
"""Folder, beside the checkpoints, in which one is written before it gets its name."""

_NAME = re.compile(r"checkpoint-(\d+)")
_console = Console(stderr=True)


def commit(folder: Path, target: Path) -> None:
    """Give a finished checkpoint its name: flush every file, list the sizes, rename.

    The rename is the only moment at which the checkpoint becomes visible; a process that is killed before it leaves
    nothing under a checkpoint's name.
    """
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps({"files": sizes}, indent=1) + "\n")
    for path in [*_files(folder), folder]:
        _flush(path)
    if target.exists():  # left by a run that could not trust it
        shutil.rmtree(target)
    folder.rename(target)
    _flush(target.parent)


def last_checkpoint(output: Path) -> Path | None:
    """Return the whole checkpoint with the highest step; ``None`` where there is none.

    A checkpoint that lacks its list of files, or whose files have other sizes, is passed over with a warning.
    """
    for folder in _checkpoints(output):
        fault = _fault(folder)
        if fault is None:
            return folder
        _console.print(f"[yellow]{folder.name} is passed over: {fault}.[/yellow]", highlight=False)
    return None


def remove_checkpoints(output: Path) -> int:
    """Delete every checkpoint of ``output`` and what a killed save left; return how many checkpoints there were."""
    found = _checkpoints(output)
    for folder in [*found, output / STAGING]:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def _checkpoints(output: Path) -> list[Path]:
    """Folders named as checkpoints, the highest step first."""
    if not output.is_dir():
        return []
    steps = {path: _NAME.fullmatch(path.name) for path in output.iterdir() if path.is_dir()}
    named = [(int(match.group(1)), path) for path, match in steps.items() if match is not None]
    return [path for _, path in sorted(named, reverse=True)]


def _fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint; ``None`` when it is whole."""
    try:
        sizes: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} is missing or unreadable"
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
