"""Pictures from URLs, where the operator allows some hosts; off by default.

Server-side request forgery is closed off at each hop: only http and https, only allowed names, only public addresses,
the very address that was checked is the one connected to, and a redirect is a new request with all checks again.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, urljoin, urlsplit

from vlkd_serving.errors import UnprocessableError

__all__ = ["Fetcher", "is_url"]

MAX_HOPS = 3
CHUNK = 64 << 10
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
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
        timeout_s: for everything together, however slowly it drips.
        resolve: name and port -> addresses.
        connect: address, port and time-out -> socket.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        max_bytes: int,
        timeout_s: float,
        resolve: Resolver | None = None,
        connect: Connector | None = None,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolve = resolve or _resolve
        self._connect = connect or (lambda address, port, limit: socket.create_connection((address, port), limit))

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
        addresses = self._resolve(host, port)
        if not addresses or not all(_is_public(address) for address in addresses):
            raise UnprocessableError("This server does not fetch pictures from this URL.", param)
        connection = http.client.HTTPConnection(host, port)
        raw = self._connect(addresses[0], port, _left(until))  # the address that was checked, not the name again
        try:
            raw.settimeout(_left(until))
            connection.sock = (
                ssl.create_default_context().wrap_socket(raw, server_hostname=host) if port == 443 else raw
            )
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "vlkd"})
            answer = connection.getresponse()
            if answer.status != 200:
                return answer.status, answer.getheader("Location"), b""
            return 200, None, self._read(answer, raw, until, param)
        finally:
            connection.close()
            raw.close()

    def _read(self, answer: http.client.HTTPResponse, raw: socket.socket, until: float, param: str | None) -> bytes:
        body = bytearray()
        while True:
            raw.settimeout(_left(until))
            chunk = answer.read1(CHUNK)
            if not chunk:
                return bytes(body)
            body += chunk
            if len(body) > self._max_bytes:
                raise UnprocessableError(f"The picture's URL sends more than {self._max_bytes} bytes.", param)


def _left(until: float) -> float:
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _resolve(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _is_public(address: str) -> bool:
    """Whether an address is of the open internet; an IPv4 one in an IPv6 one is judged as itself."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    return (mapped or parsed).is_global and not parsed.is_multicast
