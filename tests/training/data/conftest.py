"""Small data sets on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WriteSplit = Callable[..., Path]


@pytest.fixture
def write_split(tmp_path: Path) -> WriteSplit:
    """Write an imagefolder split of 4-pixel pictures from the given metadata lines; returns the data folder."""

    def write(lines: list[dict[str, Any] | str], split: str = "test", folder: str = "data") -> Path:
        target = tmp_path / folder / split
        target.mkdir(parents=True, exist_ok=True)
        for line in lines:
            if isinstance(line, dict) and "file_name" in line:
                Image.new("RGB", (4, 4), "red").save(target / line["file_name"])
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (target / "metadata.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
        return tmp_path / folder

    return write
