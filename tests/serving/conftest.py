"""A fake student, pictures, an index of them, and the application on both."""

from __future__ import annotations

import importlib.util
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module with the fake student."""
    path = Path(__file__).parent / "fake_student.py"
    spec = importlib.util.spec_from_file_location("fake_student", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def picture_bytes() -> Callable[..., bytes]:
    """``picture_bytes("red", "JPEG", (32, 24))``: one encoded picture of one colour."""

    def make(colour: str | tuple[int, int, int] = "red", form: str = "PNG", size: tuple[int, int] = (32, 24)) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, COLOURS[colour] if isinstance(colour, str) else colour).save(buffer, form)
        return buffer.getvalue()

    return make


@pytest.fixture
def pictures(tmp_path: Path, picture_bytes: Callable[..., bytes]) -> Path:
    """A folder with three pictures, one in a sub-folder, and their captions."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    (root / "red.png").write_bytes(picture_bytes("red"))
    (root / "green.jpg").write_bytes(picture_bytes("green", "JPEG"))
    (root / "more" / "blue.webp").write_bytes(picture_bytes("blue", "WEBP"))
    (root / "metadata.jsonl").write_text(
        '{"file_name": "red.png", "captions": ["a red field"], "qa": [{}], "class": "field"}\n'
    )
    return root


@pytest.fixture
def index_dir(tmp_path: Path, pictures: Path, fake: ModuleType) -> Path:
    """An index of ``pictures`` by the fake student."""
    from vlkd_serving.index.build import build_index
    from vlkd_serving.index.scan import scan_folder

    directory = tmp_path / "index"
    build_index(directory, fake.FakeStudent(), fake.FINGERPRINT, scan_folder(pictures), pictures)
    return directory


@pytest.fixture
def make_client(index_dir: Path, fake: ModuleType) -> Iterator[Callable[..., Any]]:
    """``make_client(student, with_index=False, max_inflight=1)``: a started application's test client."""
    from fastapi.testclient import TestClient

    from vlkd_serving.app import create_app
    from vlkd_serving.engine import Engine
    from vlkd_serving.index import LiveIndex
    from vlkd_serving.model_pool import ModelSource
    from vlkd_serving.settings import ServerSettings

    started: list[TestClient] = []

    def make(student: Any = None, with_index: bool = True, **limits: Any) -> TestClient:
        settings = ServerSettings(**limits)
        live = LiveIndex(index_dir, fake.FINGERPRINT) if with_index else None
        model = student or fake.FakeStudent()
        engine = Engine([ModelSource("fake", lambda: model)], settings, live)
        client = TestClient(create_app(settings, engine), raise_server_exceptions=False)
        client.__enter__()
        started.append(client)
        return client

    yield make
    for client in started:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., Any]) -> Any:
    """The application with default settings and an index."""
    return make_client()


@pytest.fixture
def live_server(index_dir: Path, fake: ModuleType) -> Iterator[Callable[..., str]]:
    """``live_server(student, max_inflight=1)``: the address of the application on a socket, in a thread."""
    import uvicorn

    from vlkd_serving.app import create_app
    from vlkd_serving.engine import Engine
    from vlkd_serving.index import LiveIndex
    from vlkd_serving.model_pool import ModelSource
    from vlkd_serving.settings import ServerSettings

    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(student: Any = None, models: tuple[str, ...] = ("fake",), **limits: Any) -> str:
        settings = ServerSettings(**limits)
        model = student or fake.FakeStudent()
        sources = [ModelSource(name, lambda: model) for name in models]
        engine = Engine(sources, settings, LiveIndex(index_dir, fake.FINGERPRINT))
        config = uvicorn.Config(create_app(settings, engine), port=0, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        until = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive() and time.monotonic() < until
            time.sleep(0.01)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
