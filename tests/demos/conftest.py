"""Pictures, a real bundle with its index, and the module that drives the browser."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange", "purple", "black")


@pytest.fixture(scope="session")
def driver() -> ModuleType:
    """``tests/demos/screenshot.py``."""
    path = Path(__file__).parent / "screenshot.py"
    spec = importlib.util.spec_from_file_location("demo_screenshot", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def draw() -> Callable[[str], bytes]:
    """``draw("red")``: a PNG with a circle of that colour."""

    def make(colour: str) -> bytes:
        image = Image.new("RGB", (96, 72), "white")
        ImageDraw.Draw(image).ellipse((20, 10, 70, 60), fill=colour)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def circles(tmp_path_factory: pytest.TempPathFactory, draw: Callable[[str], bytes]) -> Path:
    """A folder of six circles with captions."""
    folder = tmp_path_factory.mktemp("circles")
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(draw(colour))
    lines = [
        json.dumps({"file_name": f"{c}.png", "captions": [f"a {c} circle", f"a circle that is {c}"]}) for c in COLOURS
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def circle_index(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, circles: Path) -> Path:
    """An index of ``circles`` by the tiny real student."""
    from vlkd_serving.index.build import build_index
    from vlkd_serving.index.scan import scan_folder
    from vlkd_serving.loading import load_model

    directory = tmp_path_factory.mktemp("demo") / "index"
    loaded = load_model(tiny_bundle, threads=1)
    build_index(directory, loaded.student, loaded.fingerprint, scan_folder(circles), circles)
    return directory
