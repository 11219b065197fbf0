"""The report of a command as a file, for what reads it next: ``--json`` of the verbs and benches."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["write_report"]


def write_report(path: Path | None, report: dict[str, Any]) -> None:
    """Write ``report`` as JSON, whole or not at all.

    Args:
        path: made with its folders; ``None`` writes nothing, since nobody asked.
        report: what ``json`` can write.

    Raises:
        OSError: the place cannot be written to.
        TypeError: the report holds what JSON has no word for; an older file is then still there.
    """
    if path is None:
        return
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f"{path.name}.tmp")
    work.write_text(text, encoding="utf-8")
    os.replace(work, path)
