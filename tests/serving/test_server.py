"""A real server process on 127.0.0.1, where torch cannot be imported: start, answer, drain, exit."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from vlkd_serving.engine import Engine
from vlkd_serving.model_pool import ModelSource
from vlkd_serving.server import run_server
from vlkd_serving.settings import ServerSettings

READY_S = 20.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def start(index_dir: Path) -> Iterator[Callable[[float], tuple[subprocess.Popen[str], httpx.Client]]]:
    """``start(delay_s)``: a server process on the fake student, ready, and a client of it."""
    running: list[tuple[subprocess.Popen[str], httpx.Client]] = []

    def begin(delay_s: float = 0.0) -> tuple[subprocess.Popen[str], httpx.Client]:
        port = free_port()
        script = Path(__file__).parent / "fake_student.py"
        given = {"port": port, "index": str(index_dir), "delays": {"delay_s": delay_s}}
        command = [sys.executable, str(script), json.dumps(given)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        running.append((process, client))
        until = time.monotonic() + READY_S
        while True:
            try:
                if client.get("/readyz").status_code == 200:
                    return process, client
            except httpx.TransportError:
                pass
            assert process.poll() is None and time.monotonic() < until, process.stderr and process.stderr.read()
            time.sleep(0.05)

    yield begin
    for process, client in running:
        client.close()
        process.kill()
        process.communicate()


def test_it_answers_without_torch_and_stops_with_exit_code_0(
    start: Callable[..., tuple], picture_bytes: Callable
) -> None:
    """Search, caption, question and picture over a socket; SIGTERM ends it cleanly."""
    process, client = start()
    best = client.post("/v1/search", json={"text": "blue", "k": 1}).json()["results"][0]
    assert best["id"] == "more/blue.webp" and client.get(best["image_url"]).headers["content-type"] == "image/webp"
    files = {"image": ("x.png", picture_bytes("green"))}
    assert client.post("/v1/caption", files=files).json()["caption"] == "a green picture"
    answer = client.post("/v1/vqa", files=files, data={"question": "what color?"}).json()["answer"]
    assert answer == "green"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_sigterm_drops_nothing_that_was_admitted(start: Callable[..., tuple], picture_bytes: Callable) -> None:
    """Requests in flight at the signal are answered; the process then ends."""
    process, client = start(0.5)
    files = {"image": ("x.png", picture_bytes("red"))}
    codes: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=20) as own:
            codes.append(own.post("/v1/caption", files=files).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while "vlkd_inflight 6.0" not in client.get("/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert codes == [200] * 6
    assert process.wait(10) == 0


def test_a_port_in_use_is_an_error(start: Callable[..., tuple]) -> None:
    """A second server on the same port ends at once with a non-zero code."""
    _, client = start()
    script = Path(__file__).parent / "fake_student.py"
    command = [sys.executable, str(script), json.dumps({"port": client.base_url.port})]
    assert subprocess.run(command, capture_output=True, timeout=20).returncode != 0


def test_a_model_that_fails_stops_the_start(fake: ModuleType) -> None:
    """An orchestrator must see that, not a process that ends as if all were well."""
    student = fake.FakeStudent()
    student.encode_pictures = lambda pixels: 1 / 0
    settings = ServerSettings(port=0)
    with pytest.raises(SystemExit) as ended:
        run_server(settings, Engine([ModelSource("fake", lambda: student)], settings))
    assert ended.value.code not in (0, None)
