"""Read annotation files; every error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlkd_hub.errors import DataError

__all__ = ["read_json", "read_jsonl"]


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``("file, line n", object)`` for each line that is not blank.

    Raises:
        DataError: the file is missing, or a line is not a JSON object in UTF-8.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}, line {number}", _object(line, f"{path}, line {number}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}.") from error


def read_json(path: Path) -> Any:
    """Return what the whole file holds.

    Raises:
        DataError: the file is missing, or is not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}). Each line is one object, as {{...}}.") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(found).__name__}.")
    return found
