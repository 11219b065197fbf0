"""Four times what the server can do: it answers what it admits as fast as before, and turns the rest away at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from vlkd_serving.bench_serve.load import build_request, closed_loop, open_loop, percentile

pytestmark = pytest.mark.slow

Record = Callable[[str, object], None]
CLIENTS = 16
BATCH, BATCH_S = 8, 0.2
"""The fake model only sleeps, so that the processor is free for what is measured: 40 requests a second at most."""
LIMIT = 24
"""Half again as many as the clients that keep the server busy, so that nothing waits for more than that."""
BUSY = 0.25
"""Share of the processors that others may take before a failed measurement is repeated instead of believed."""
TRIES = 3


def test_four_times_the_capacity(
    start_server: Callable[..., Any],
    others_share: Callable[[int], Callable[[], float]],
    nightly: bool,
    record_property: Record,
) -> None:
    """Only 200 and 429; admitted p99 at most twice that at capacity; goodput 90 % of the peak; recovery in 5 s.

    Capacity is measured in the same run, right before. Where others kept the machine busy meanwhile, a run that missed
    is repeated, twice at most; on a quiet machine, or after that, it has failed.
    """
    server = start_server(delays={"delay_s": BATCH_S}, max_batch=BATCH, max_inflight=LIMIT)
    for turn in range(TRIES):
        share = others_share(server.process.pid)
        figures = _measure(server.url, 120.0 if nightly else 20.0)
        figures["others_share"] = share()
        missed = _missed(figures)
        assert server.process.poll() is None
        if not missed or turn + 1 == TRIES or figures["others_share"] < BUSY:
            break
    for name, value in {**figures, "runs": turn + 1}.items():
        record_property(name, round(value, 3))
    assert not missed, (missed, figures)


def _measure(url: str, seconds: float) -> dict[str, float]:
    """Capacity, four times that for some seconds, and capacity again; any other status than 200 and 429 fails."""
    body = json.dumps({"input": "something red"}).encode()
    requests = [build_request(url, "/v1/embeddings", body, "application/json")]
    asyncio.run(closed_loop(url, requests, CLIENTS, 40))
    peak = asyncio.run(closed_loop(url, requests, CLIENTS, 240))
    peak_per_s = len(peak) / max(each.sent_s + each.seconds for each in peak)
    begin = time.perf_counter()
    flood = asyncio.run(open_loop(url, requests, 4 * peak_per_s, seconds))
    ended = begin + max(each.sent_s for each in flood)
    after = asyncio.run(closed_loop(url, requests, CLIENTS, 80))
    recovered = time.perf_counter()
    assert {each.status for each in peak} == {each.status for each in after} == {200}
    assert {each.status for each in flood} == {200, 429}
    good = [each for each in flood if each.status == 200]
    return {
        "peak_per_s": peak_per_s,
        "offered_per_s": len(flood) / max(each.sent_s for each in flood),
        "goodput": len(good) / (max(each.sent_s + each.seconds for each in flood) * peak_per_s),
        "p99_s_at_capacity": percentile([each.seconds for each in peak], 0.99),
        "p99_ratio": percentile([each.seconds for each in good], 0.99)
        / percentile([each.seconds for each in peak], 0.99),
        "rejected_p99_s": percentile([each.seconds for each in flood if each.status == 429], 0.99),
        "recovery_s": recovered - ended,
        "recovery_ratio": percentile([each.seconds for each in after], 0.5)
        / percentile([each.seconds for each in peak], 0.5),
    }


def _missed(figures: dict[str, float]) -> list[str]:
    """The promises that a measurement did not keep.

    Recovery holds a whole closed loop of 80 requests, two seconds of work, at the speed of before.
    """
    kept = {
        "the flood is less than 3.5 times the capacity": figures["offered_per_s"] >= 3.5 * figures["peak_per_s"],
        "goodput": figures["goodput"] >= 0.9,
        "p99": figures["p99_ratio"] <= 2.0,
        "recovery": figures["recovery_s"] < 5.0 and figures["recovery_ratio"] < 1.5,
    }
    return [name for name, right in kept.items() if not right]
