"""SIGTERM in the middle of the work: everything that was admitted is answered, and the exit is clean."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from vlkd_serving.bench_serve.load import Connection, build_request

pytestmark = pytest.mark.slow

Record = Callable[[str, object], None]
CLIENTS = 16


def test_nothing_admitted_is_dropped(start_server: Callable[..., Any], nightly: bool, record_property: Record) -> None:
    """The server's own log names each request that it answered with 200; every one of them reached its client."""
    rounds, answers = 20 if nightly else 3, 0
    for round_ in range(rounds):
        server = start_server(delays={"delay_s": 0.1}, max_batch=4)
        answered = asyncio.run(_load_and_stop(server, 0.6 + 0.05 * (round_ % 5)))
        assert server.process.wait(30) == 0
        finished = {line["request_id"] for line in server.lines() if line.get("status") == 200 and "ms" in line}
        embedded = {name for name in finished if name.startswith("r-")}
        received = {name for name, status in answered.items() if status == 200}
        assert embedded == received, (embedded ^ received, round_)
        assert set(answered.values()) <= {200, 429, 503, 0} and len(received) > 10
        answers += len(received)
        in_flight = [line for line in server.lines() if line.get("request_id", "").startswith("r-")]
        assert {line["status"] for line in in_flight} <= {200, 429, 503}
    record_property("rounds", rounds)
    record_property("answered", answers)


async def _load_and_stop(server: Any, after_s: float) -> dict[str, int]:
    """Load, the signal, and the status that each request got; 0 where the server took no more connections."""
    answered: dict[str, int] = {}
    body = json.dumps({"input": "red"}).encode()
    plain = build_request(server.url, "/v1/embeddings", body, "application/json")
    stop = time.perf_counter() + after_s

    async def client(number: int) -> None:
        turn = 0
        while server.process.poll() is None and time.perf_counter() < stop + 1.0:
            name = f"r-{number}-{turn}"
            request = plain.replace(b"Host:", f"X-Request-Id: {name}\r\nHost:".encode(), 1)
            connection = Connection(server.url)
            answered[name] = await connection.ask(request)
            connection.close()
            turn += 1

    async def signaller() -> None:
        await asyncio.sleep(after_s)
        server.process.send_signal(signal.SIGTERM)

    await asyncio.gather(signaller(), *(client(number) for number in range(CLIENTS)))
    return answered
