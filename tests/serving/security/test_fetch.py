"""Server-side request forgery: no spelling of an address reaches a service of this machine."""

from __future__ import annotations

import base64
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from vlkd_serving.errors import ServingError, UnprocessableError
from vlkd_serving.security import fetch
from vlkd_serving.security.fetch import Fetcher

PUBLIC = "93.184.215.14"


class Canary(http.server.ThreadingHTTPServer):
    """A service on the loopback address that counts who comes."""

    hits = 0
    picture = b""


class Handler(http.server.BaseHTTPRequestHandler):
    """Pictures, redirects and trouble, by path."""

    server: Canary

    def do_GET(self) -> None:
        self.server.hits += 1
        if self.path == "/picture":
            self._send(200, self.server.picture)
        elif self.path == "/large":
            self._send(200, b"x" * 300_000)
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            self._drip()
        elif self.path == "/drip-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self._drip()
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        else:
            self._send(404, b"")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def _drip(self) -> None:
        for _ in range(100):
            time.sleep(0.1)
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@contextmanager
def running(picture: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Canary]:
    """A canary on 127.0.0.1."""
    server = Canary(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.picture = picture
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def canary(picture_bytes: Callable[..., bytes]) -> Iterator[Canary]:
    """Running, without TLS."""
    with running(picture_bytes("green")) as server:
        yield server


@pytest.fixture
def fetcher(canary: Canary) -> Fetcher:
    """Allowed: cdn.example.org. Its public address leads to the canary, as if that were the wide world."""
    names = {
        "cdn.example.org": [PUBLIC],
        "inside.example.org": ["10.0.0.5"],
        "mixed.example.org": [PUBLIC, "127.0.0.1"],
    }
    port = canary.server_address[1]

    def connect(address: str, _: int, timeout_s: float) -> socket.socket:
        assert address == PUBLIC, f"connected to {address}"
        return socket.create_connection(("127.0.0.1", port), timeout_s)

    return Fetcher(list(names), 200_000, 1.0, lambda host, _: names[host], connect)


SPELLINGS = [
    "http://127.0.0.1:{port}/picture",
    "http://localhost:{port}/picture",
    "http://LOCALHOST:{port}/picture",
    "http://127.1:{port}/picture",
    "http://2130706433:{port}/picture",
    "http://0x7f000001:{port}/picture",
    "http://0177.0.0.1:{port}/picture",
    "http://0:{port}/picture",
    "http://0.0.0.0:{port}/picture",
    "http://[::1]:{port}/picture",
    "http://[::ffff:127.0.0.1]:{port}/picture",
    "http://[::ffff:7f00:1]:{port}/picture",
    "http://127.0.0.1.nip.io:{port}/picture",
    "http://cdn.example.org@127.0.0.1:{port}/picture",
    "http://cdn.example.org:80@127.0.0.1:{port}/picture",
    "http://127.0.0.1:{port}\\@cdn.example.org/picture",
    "http://127.0.0.1:{port}#@cdn.example.org/picture",
    "http://cdn.example.org:{port}/picture",
    "http://localhost.:{port}/picture",
    "http://①②⑦.0.0.1:{port}/picture",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "ftp://127.0.0.1/picture",
    "gopher://127.0.0.1:{port}/_GET",
    "//127.0.0.1:{port}/picture",
    "http://127.0.0.1\t:{port}/picture",
    "HTTP://127.0.0.1:{port}/picture",
    "http:/\\127.0.0.1:{port}/picture",
]


@pytest.fixture
def every_name_leads_here(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The hosts of all spellings: names resolve to this machine, and the canary's port is the usual one of http, so
    that where they are allowed nothing but the check of the address stands before the canary."""

    def resolve(host: str, port: int) -> list[str]:
        try:
            return [str(info[4][0]) for info in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]
        except OSError:
            return ["127.0.0.1"]

    monkeypatch.setattr(fetch, "_resolve", resolve)
    monkeypatch.setitem(fetch._PORTS, "http", canary.server_address[1])
    spelled = (spelling.format(port=canary.server_address[1]) for spelling in SPELLINGS if "①" not in spelling)
    return tuple(host for host in (urlsplit(url).hostname for url in spelled) if host)


@pytest.mark.parametrize("enabled", [False, True])
def test_no_spelling_reaches_this_machine(
    make_client: Callable[..., Any],
    canary: Canary,
    every_name_leads_here: tuple[str, ...],
    enabled: bool,
    picture_bytes: Callable[..., bytes],
) -> None:
    """On every route that takes a picture, with fetching off and on: 4xx, quickly, and zero hits."""
    client = make_client(fetch_hosts=every_name_leads_here if enabled else ())
    for spelling in SPELLINGS:
        url = spelling.format(port=canary.server_address[1])
        message = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        for path, body in (
            ("/v1/caption", {"image": url}),
            ("/v1/search", {"image": url}),
            ("/v1/chat/completions", {"messages": message}),
            ("/hf/image-to-text", {"inputs": url}),
        ):
            begin = time.perf_counter()
            answer = client.post(path, json=body)
            assert 400 <= answer.status_code < 500, (path, url, answer.text)
            assert time.perf_counter() - begin < 1.0, url
    assert canary.hits == 0
    good = base64.b64encode(picture_bytes("red")).decode()
    assert client.post("/v1/caption", json={"image": good}).status_code == 200


def test_only_the_address_keeps_the_canary_safe(
    make_client: Callable[..., Any],
    canary: Canary,
    every_name_leads_here: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without that check the same server does reach it: the test above is about nothing else."""
    monkeypatch.setattr(fetch, "_is_public", lambda address: True)
    client = make_client(fetch_hosts=every_name_leads_here)
    for host in ("127.0.0.1", "2130706433", "localhost", "[::ffff:7f00:1]", "cdn.example.org"):
        url = f"http://{host}:{canary.server_address[1]}/picture"
        assert client.post("/v1/caption", json={"image": url}).json()["caption"] == "a green picture"
    assert canary.hits == 5


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:4700::1111", True),
        (f"::ffff:{PUBLIC}", True),
        ("64:ff9b::5db8:d70e", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.0.8", False),
        ("192.0.0.170", False),
        ("224.0.0.251", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a00:5", False),
        ("64:ff9b:1::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    """An IPv4 address inside of an IPv6 one is judged as itself, whatever it is wrapped in."""
    assert fetch._is_public(address) is public


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of cdn.example.org that it has signed itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=cdn.example.org", "-addext", "subjectAltName=DNS:cdn.example.org"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *names, "-out", str(made), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made, key


def test_a_picture_comes_over_tls(certificate: tuple[Path, Path], picture_bytes: Callable[..., bytes]) -> None:
    """Where the certificate is trusted and names the host, and nowhere else; within the time, and the size."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with running(picture_bytes("green"), serving) as canary:

        def connect(address: str, _: int, timeout_s: float) -> socket.socket:
            return socket.create_connection(("127.0.0.1", canary.server_address[1]), timeout_s)

        hosts = ["cdn.example.org", "other.example.org"]
        fetcher = Fetcher(hosts, 200_000, 2.0, lambda host, _: [PUBLIC], connect, trusting)
        assert fetcher.fetch("https://cdn.example.org/picture") == canary.picture
        with pytest.raises(UnprocessableError, match="more than 200000 bytes"):
            fetcher.fetch("https://cdn.example.org/large")
        begin = time.monotonic()
        with pytest.raises(UnprocessableError, match="in time"):
            fetcher.fetch("https://cdn.example.org/drip-head")
        assert time.monotonic() - begin < 4
        hits = canary.hits
        with pytest.raises(UnprocessableError, match="in time or at all"):
            fetcher.fetch("https://other.example.org/picture")
        with pytest.raises(UnprocessableError, match="in time or at all"):
            Fetcher(hosts, 200_000, 2.0, lambda host, _: [PUBLIC], connect).fetch("https://cdn.example.org/picture")
        assert canary.hits == hits


def test_a_name_that_resolves_too_late(canary: Canary) -> None:
    """The system's resolver may take half a minute."""
    late = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        late.wait(10)
        return [PUBLIC]

    begin = time.monotonic()
    with pytest.raises(UnprocessableError, match="in time"):
        Fetcher(["cdn.example.org"], 200_000, 0.3, resolve).fetch("http://cdn.example.org/picture")
    assert time.monotonic() - begin < 3
    late.set()


def test_an_allowed_host_is_fetched(fetcher: Fetcher, canary: Canary) -> None:
    """Also by way of a redirect to itself."""
    assert fetcher.fetch("http://cdn.example.org/picture") == canary.picture
    assert fetcher.fetch("http://cdn.example.org/to//picture") == canary.picture
    assert fetcher.fetch("http://CDN.example.org:80/picture") == canary.picture


@pytest.mark.parametrize(
    "url",
    [
        "http://inside.example.org/picture",
        "http://mixed.example.org/picture",
        "http://other.example.org/picture",
        "http://cdn.example.org:8080/picture",
        "http://user:pass@cdn.example.org/picture",
        "http://cdn.example.org/ picture",
        "https://cdn.example.org:80/picture",
        "http://[bad/picture",
        "http://cdn.example.org:99999/picture",
    ],
)
def test_refused_before_anything_is_sent(fetcher: Fetcher, canary: Canary, url: str) -> None:
    """Private addresses behind an allowed name, other ports, user names, malformed addresses."""
    with pytest.raises(UnprocessableError, match="does not fetch"):
        fetcher.fetch(url, "image")
    assert canary.hits == 0


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/picture", "http://inside.example.org/picture", "file:///etc/passwd", "//169.254.169.254/"],
)
def test_every_redirect_is_checked_again(fetcher: Fetcher, canary: Canary, target: str) -> None:
    """The first hop is allowed, the second is not."""
    with pytest.raises(UnprocessableError, match="does not fetch"):
        fetcher.fetch(f"http://cdn.example.org/to/{target}")
    assert canary.hits == 1


def test_too_many_redirects_too_large_too_slow_and_not_there(fetcher: Fetcher) -> None:
    """Each within its limit."""
    loop = "/to/" * 6 + "/picture"
    with pytest.raises(UnprocessableError, match="redirects"):
        fetcher.fetch(f"http://cdn.example.org{loop}")
    with pytest.raises(UnprocessableError, match="more than 200000 bytes"):
        fetcher.fetch("http://cdn.example.org/large")
    with pytest.raises(UnprocessableError, match="status 404"):
        fetcher.fetch("http://cdn.example.org/nothing")
    for slow in ("drip", "drip-head"):
        begin = time.monotonic()
        with pytest.raises(ServingError, match="in time"):
            fetcher.fetch(f"http://cdn.example.org/{slow}")
        assert time.monotonic() - begin < 2.5


@pytest.mark.parametrize(
    "path",
    ["/to/http://127.0.0.1/picture", "/to/http://10.0.0.5/x", "/large", "/drip", "/drip-head", "/nothing", "/to/" * 6],
)
def test_bad_answers_through_the_server(
    make_client: Callable[..., Any], canary: Canary, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Redirected to where it must not go, too long, too slow, not there: 422 in our shape within a second, and the
    next good URL is fetched."""
    connect, port = socket.create_connection, canary.server_address[1]

    def reroute(address: tuple[str, int], timeout: float) -> socket.socket:
        assert address[0] == PUBLIC, f"connected to {address}"
        return connect(("127.0.0.1", port), timeout)

    monkeypatch.setattr(fetch, "_resolve", lambda host, _: [PUBLIC] if host == "cdn.example.org" else [host])
    monkeypatch.setattr(fetch.socket, "create_connection", reroute)
    client = make_client(fetch_hosts=("cdn.example.org",), fetch_timeout_s=0.5, max_picture_bytes=200_000)
    begin = time.perf_counter()
    answer = client.post("/v1/caption", json={"image": f"http://cdn.example.org{path}"})
    assert time.perf_counter() - begin < 1.0
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "invalid_input", "image"), answer.text
    assert set(error) == {"code", "message", "param", "request_id"}
    good = client.post("/v1/caption", json={"image": "http://cdn.example.org/picture"})
    assert good.json()["caption"] == "a green picture"
