"""Servers in processes of their own, and how long the long tests run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from vlkd_serving.bench_serve.processes import free_port

NIGHTLY = os.environ.get("VLKD_NIGHTLY") == "1"


@dataclass
class ServerProcess:
    """A server on the fake student, and what it wrote."""

    url: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far, JSON lines only."""
        self.log.seek(0)
        return [json.loads(line) for line in self.log if line.startswith(b"{")]


@pytest.fixture(scope="session")
def nightly() -> bool:
    """Whether VLKD_NIGHTLY=1 asks for the full figures."""
    return NIGHTLY


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """``start_server(delays={"delay_s": 0.05}, max_inflight=8)``: ready, with a JSON log."""
    started: list[ServerProcess] = []

    def begin(**given: Any) -> ServerProcess:
        port = free_port()
        script = Path(__file__).parents[1] / "fake_student.py"
        log = tempfile.TemporaryFile()
        command = [sys.executable, str(script), json.dumps({"port": port, "log_format": "json", **given})]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        started.append(ServerProcess(f"http://127.0.0.1:{port}", process, log))
        until = time.monotonic() + 60
        while not _ready(started[-1].url):
            assert process.poll() is None and time.monotonic() < until, log.seek(0) or log.read()
            time.sleep(0.05)
        return started[-1]

    yield begin
    for server in started:
        server.process.kill()
        server.process.wait()
        server.log.close()


@pytest.fixture
def others_share() -> Callable[[int], Callable[[], float]]:
    """``share = others_share(pid)``, and later ``share()``: what part of the processors went to others than this test
    and the process ``pid`` in between, 0 to 1; 0 where the system does not tell."""
    tick = os.sysconf("SC_CLK_TCK")

    def spent(pid: int) -> tuple[float, float]:
        try:
            numbers = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0, 0.0
        user, nice, system, _, _, irq, softirq, steal = map(int, numbers)
        ours = (int(fields[11]) + int(fields[12])) / tick + sum(os.times()[:2])
        return (user + nice + system + irq + softirq + steal) / tick - ours, time.monotonic()

    def begin(pid: int) -> Callable[[], float]:
        before = spent(pid)

        def end() -> float:
            busy, now = spent(pid)
            return max(0.0, busy - before[0]) / max(1e-9, (now - before[1]) * (os.cpu_count() or 1))

        return end

    return begin


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
