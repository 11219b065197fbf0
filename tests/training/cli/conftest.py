"""Data for the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures in each of two splits."""
    for split in ("train", "test"):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        lines = []
        for number, color in enumerate(("red", "blue", "green")):
            Image.new("RGB", (32, 32), color).save(folder / f"{number}.png")
            qa = [{"question": f"what color is circle {number} ?", "answers": [color], "type": "color"}]
            lines.append(
                {"file_name": f"{number}.png", "captions": [f"a {color} circle", f"the {color} one"], "qa": qa}
            )
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "data"
