"""Servers in processes of their own: started, awaited, measured, stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlkd_hub.errors import InvalidInputError

__all__ = ["RunningServer", "free_port", "resident_mb", "running", "serve_command"]

START_S = 120.0
STOP_S = 30.0


@dataclass(frozen=True)
class RunningServer:
    """A server that is ready.

    Args:
        url: its address.
        process: to be signalled.
        start_s: from the start of the process to ready.
        ready_mb: resident memory when it was ready.
    """

    url: str
    process: subprocess.Popen[bytes]
    start_s: float
    ready_mb: float


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_command(bundle: Path, port: int, threads: int, *extra: str) -> list[str]:
    """``vlkd serve`` with torch made impossible to import."""
    code = "import sys; sys.modules['torch'] = None; from vlkd_hub.cli import main; main(sys.argv[1:])"
    options = ["--model", str(bundle), "--port", str(port), "--threads", str(threads)]
    return [sys.executable, "-c", code, "serve", *options, *extra]


@contextmanager
def running(command: Sequence[str], port: int, ready: str = "/readyz") -> Iterator[RunningServer]:
    """Run a server until the body ends.

    Raises:
        InvalidInputError: it ended or was not ready in time.
    """
    url = f"http://127.0.0.1:{port}"
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(url + ready):
            if process.poll() is not None or time.perf_counter() - begin > START_S:
                raise InvalidInputError(f"The server did not get ready: {' '.join(command)}")
            time.sleep(0.01)
        yield RunningServer(url, process, time.perf_counter() - begin, resident_mb(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB (1,000,000 bytes); NaN where the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return float("nan")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
