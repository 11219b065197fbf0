"""How long one caption of one picture takes: torch, this runtime, and over HTTP; same student, same words."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from PIL import Image

from vlkd_hub.errors import InvalidInputError, ParityError

__all__ = ["busy_share", "http_captioner", "measure", "running_server", "spread", "summary"]

Captioner = Callable[[Image.Image], str]

START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 60.0
WARM_UP = 3


def measure(captioners: dict[str, Captioner], pictures: Sequence[Image.Image], runs: int) -> dict[str, list[float]]:
    """Time each captioner on the same pictures in turns, so that all meet the same weather.

    Args:
        captioners: name -> one picture to its caption; the first is the one the others must agree with.
        pictures: taken round and round.
        runs: timed captions of each.

    Returns:
        Name -> milliseconds of each run.

    Raises:
        ParityError: two of them write different captions, so their times cannot be compared.
        InvalidInputError: no picture, or no run.
    """
    if not pictures or runs < 1:
        raise InvalidInputError(f"Expected pictures and at least one run, got {len(pictures)} and {runs}.")
    first, *others = captioners
    for picture in pictures:
        words = {name: caption(picture) for name, caption in captioners.items()}
        for name in others:
            if words[name] != words[first]:
                raise ParityError(
                    f"{name} writes {words[name]!r} and {first} {words[first]!r} for the same picture, so their times "
                    "cannot be compared. Is the bundle an export of this student? Try: vlkd verify."
                )
    for _ in range(WARM_UP):
        for caption in captioners.values():
            caption(pictures[0])
    times: dict[str, list[float]] = {name: [] for name in captioners}
    for run in range(runs):
        for name, caption in captioners.items():
            start = time.perf_counter()
            caption(pictures[run % len(pictures)])
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def summary(times: dict[str, list[float]], threads: int) -> dict[str, Any]:
    """Medians, ratios to torch, spread (10th and 90th percentile) and the load average, ready for JSON."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    report: dict[str, Any] = {f"{name}_ms": round(medians[name], 3) for name in medians}
    for name in ("onnx", "http"):
        report.setdefault(f"{name}_ms", None)
        report[f"ratio_{name}"] = round(medians["torch"] / medians[name], 2) if name in medians else None
    report["spread_ms"] = {name: spread(values) for name, values in times.items()}
    report |= {"runs": len(times["torch"]), "batch_size": 1, "threads": threads}
    report["load_average"] = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
    return report


def busy_share(seconds: float = 0.5) -> float | None:
    """Share of this machine's processors at work while this process sleeps; None where the system does not tell.

    Torch with several threads slows down many times when another process wants one of its processors, so a ratio
    measured then says little. The load average alone does not show it: it remembers what ran before.
    """
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    first = _processor_ticks(stat)
    time.sleep(seconds)
    second = _processor_ticks(stat)
    total = second[0] - first[0]
    return None if total <= 0 else round(1 - (second[1] - first[1]) / total, 2)


def _processor_ticks(stat: Path) -> tuple[int, int]:
    """All ticks since the start, and the idle ones among them (waiting for a disk is idle)."""
    ticks = [int(word) for word in stat.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def spread(values: list[float]) -> list[float]:
    """The 10th and the 90th percentile."""
    ranked = sorted(values)
    return [round(ranked[round(share * (len(ranked) - 1))], 3) for share in (0.1, 0.9)]


@contextmanager
def http_captioner(url: str) -> Iterator[Captioner]:
    """Captions by ``POST URL/v1/caption`` over one connection that stays open, the picture sent as PNG.

    Raises:
        InvalidInputError: the URL is not plain http, or (when called) the server answers with an error.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidInputError(f"Expected a URL such as http://127.0.0.1:8000, got {url!r}.")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=REQUEST_TIMEOUT_S)
    boundary = "vlkd-bench-caption"
    encoded: dict[int, bytes] = {}

    def post(body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        connection.request("POST", f"{parts.path.rstrip('/')}/v1/caption", body, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def caption(image: Image.Image) -> str:
        if id(image) not in encoded:
            encoded[id(image)] = _multipart(image, boundary)
        try:
            try:
                status, body = post(encoded[id(image)])
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()  # the server closes a connection that was idle for a while; the next one is fresh
                status, body = post(encoded[id(image)])
        except OSError as error:
            raise InvalidInputError(f"No answer from {url}: {error}. Is vlkd serve running there?") from error
        if status != http.HTTPStatus.OK:
            raise InvalidInputError(f"{url}/v1/caption answered {status}: {body[:200]!r}.")
        return str(json.loads(body)["caption"])

    try:
        yield caption
    finally:
        connection.close()


def _multipart(image: Image.Image, boundary: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="picture.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return head.encode() + stream.getvalue() + f"\r\n--{boundary}--\r\n".encode()


@contextmanager
def running_server(bundle: Path, threads: int) -> Iterator[str]:
    """Start ``vlkd serve`` on a free port of this machine, give its URL, and stop it at the end.

    Raises:
        InvalidInputError: it ended or was not ready in time; the message holds the end of what it wrote.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vlkd_hub.cli", "serve", "--model", str(bundle), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    # Its words go to a file: nobody reads a pipe while the clock runs, and a full one would stop the server.
    with tempfile.TemporaryFile() as words:
        server = subprocess.Popen([*command, "--threads", str(threads)], stdout=words, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(server, url, words)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, words: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    words.seek(0)
    said = words.read().decode(errors="replace").strip()[-500:]
    raise InvalidInputError(f"vlkd serve was not ready within {START_TIMEOUT_S:.0f} s. It said: {said}")
