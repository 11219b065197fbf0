"""Pictures from URLs, where the operator allows some hosts; off by default.

Server-side request forgery is closed off at each hop: only http and https, only allowed names, only public addresses,
the very address that was checked is the one connected to, and a redirect is a new request with all checks again.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from vlkd_serving.errors import UnprocessableError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Fetcher", "is_url"]

MAX_HOPS = 3
CHUNK = 64 << 10
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of the open internet that speaks IPv6."""
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""NAT64: the last four bytes are an IPv4 address."""
_ASSIGNED = ipaddress.ip_network("192.0.0.0/24")
"""For protocols between neighbours; some versions of Python take part of it for public."""
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]
Connector = Callable[[str, int, float], socket.socket]


def is_url(text: str) -> bool:
    """Whether a text is an http or https URL by its looks."""
    return text[:8].lower().startswith(("http://", "https://"))


class Fetcher:
    """Fetches one picture at a time; called on the threads that decode.

    Args:
        hosts: names that may be asked, exactly as they stand in the URL.
        max_bytes: a longer body is cut off and refused.
        timeout_s: for everything together, the name's resolution included, however slowly it drips.
        resolve: name and port -> addresses.
        connect: address, port and time-out -> socket.
        context: whom https trusts; by default those whom the system trusts.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        max_bytes: int,
        timeout_s: float,
        resolve: Resolver | None = None,
        connect: Connector | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolve = resolve or _resolve
        self._connect = connect or (lambda address, port, limit: socket.create_connection((address, port), limit))
        self._context = context or ssl.create_default_context()

    def fetch(self, url: str, param: str | None = None) -> bytes:
        """The bytes behind a URL.

        Raises:
            UnprocessableError: not allowed, not there, too slow, or too long; ``param`` names the field.
        """
        until = time.monotonic() + self._timeout_s
        for _ in range(MAX_HOPS + 1):
            parts = self._checked(url, param)
            try:
                status, target, body = self._get(parts, until, param)
            except (OSError, http.client.HTTPException, ValueError):
                raise UnprocessableError("The picture's URL does not answer in time or at all.", param) from None
            if status in _REDIRECTS and target:
                url = urljoin(url, target)
                continue
            if status != 200:
                raise UnprocessableError(f"The picture's URL answers with status {status}.", param)
            return body
        raise UnprocessableError(f"The picture's URL redirects more than {MAX_HOPS} times.", param)

    def _checked(self, url: str, param: str | None) -> SplitResult:
        refused = UnprocessableError("This server does not fetch pictures from this URL.", param)
        if any(char.isspace() or ord(char) < 0x21 or char == "\\" for char in url):
            raise refused
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise refused from None
        plain = parts.username is None and parts.password is None and "@" not in parts.netloc
        usual = parts.scheme in _PORTS and port in (None, _PORTS.get(parts.scheme))
        if not plain or not usual or (parts.hostname or "").lower() not in self._hosts:
            raise refused
        return parts

    def _get(self, parts: SplitResult, until: float, param: str | None) -> tuple[int, str | None, bytes]:
        host, port = str(parts.hostname), _PORTS[parts.scheme]
        addresses = self._addresses(host, port, until)
        if not addresses or not all(_is_public(address) for address in addresses):
            raise UnprocessableError("This server does not fetch pictures from this URL.", param)
        with self._opened(addresses[0], host, parts.scheme, until) as opened:  # what was checked, not the name again
            connection = http.client.HTTPConnection(host, port)
            connection.sock = _Wire(opened, until)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "vlkd"})
            with connection.getresponse() as answer:
                if answer.status != 200:
                    return answer.status, answer.getheader("Location"), b""
                return 200, None, self._read(answer, param)

    def _addresses(self, host: str, port: int, until: float) -> list[str]:
        """What a name resolves to; the system's resolver cannot be hurried, so it is left behind when it is late."""
        found: Future[list[str]] = Future()

        def look_up() -> None:
            try:
                found.set_result(self._resolve(host, port))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=look_up, name="vlkd-resolve", daemon=True).start()
        return found.result(_left(until))

    def _opened(self, address: str, host: str, scheme: str, until: float) -> closing[socket.socket]:
        opened = self._connect(address, _PORTS[scheme], _left(until))
        if scheme == "https":
            with closing(opened):  # nothing is left of it once it is wrapped
                opened.settimeout(_left(until))
                opened = self._context.wrap_socket(opened, server_hostname=host)
        return closing(opened)

    def _read(self, answer: http.client.HTTPResponse, param: str | None) -> bytes:
        body = bytearray()
        while chunk := answer.read1(CHUNK):
            body += chunk
            if len(body) > self._max_bytes:
                raise UnprocessableError(f"The picture's URL sends more than {self._max_bytes} bytes.", param)
        return bytes(body)


class _Wire:
    """A socket as ``http.client`` uses it, on which everything ends at one moment; whoever opened it closes it."""

    def __init__(self, opened: socket.socket, until: float) -> None:
        self._opened = opened
        self._until = until

    def sendall(self, content: bytes) -> None:
        self._opened.settimeout(_left(self._until))
        self._opened.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._opened, self._until))

    def close(self) -> None:
        """Called before the answer is read."""


class _Incoming(io.RawIOBase):
    """What a socket receives; each read may take the time that is left."""

    def __init__(self, opened: socket.socket, until: float) -> None:
        self._opened = opened
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._opened.settimeout(_left(self._until))
        return self._opened.recv_into(buffer)


def _left(until: float) -> float:
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _resolve(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _is_public(address: str) -> bool:
    """Whether an address is of the open internet; an IPv4 one in an IPv6 one is judged as itself."""
    parsed = _unwrapped(ipaddress.ip_address(address.split("%")[0]))
    usual = parsed in _UNICAST if parsed.version == 6 else parsed not in _ASSIGNED
    return usual and parsed.is_global and not parsed.is_multicast


def _unwrapped(address: IPAddress) -> IPAddress:
    """The IPv4 address in an IPv6 one: mapped, tunnelled or translated; any other as it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address
