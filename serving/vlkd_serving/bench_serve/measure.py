"""The measurements of ``vlkd bench serve``: server and in-process loop in turns, medians of the turns."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from vlkd_hub.errors import InvalidInputError
from vlkd_serving.bench_serve.in_process import bare_session, caption_loop, embedding_loop, one_by_one
from vlkd_serving.bench_serve.load import Sample, build_request, closed_loop, percentile
from vlkd_serving.bench_serve.pictures import embedding_body
from vlkd_serving.parts import OnnxParts

__all__ = ["Sizes", "latency", "requests_per_s", "side_by_side", "throughput"]

WARM = 4
"""Requests of each kind before the clock runs."""


@dataclass(frozen=True)
class Sizes:
    """How the server is set up, and the loop likewise: most pictures of a batch, and most texts written at once."""

    batch: int
    texts: int
    workers: int
    concurrency: int
    rounds: int


def throughput(url: str, parts: OnnxParts, pictures: Sequence[bytes], sizes: Sizes, what: str) -> dict[str, Any]:
    """Requests a second over HTTP and in process, in turns.

    Args:
        url: the server, its picture cache off.
        parts: the same model in this process, with the same threads.
        pictures: sent once each a round.
        sizes: see :class:`Sizes`.
        what: ``embedding`` (base64 in JSON, as the OpenAI client sends it), ``picture`` (the same route; the body is
            the JPEG) or ``caption`` (the body is the JPEG).
    """
    loop, batch = (caption_loop, sizes.texts) if what == "caption" else (embedding_loop, sizes.batch)
    loop(parts, pictures[:WARM], batch, sizes.workers)
    requests_per_s(url, pictures[:WARM], sizes.concurrency, what)
    served, direct = [], []
    for _ in range(sizes.rounds):
        served.append(requests_per_s(url, pictures, sizes.concurrency, what))
        direct.append(len(pictures) / loop(parts, pictures, batch, sizes.workers))
    report = _compared(served, direct)
    if what != "caption":
        report["bare_session_per_s"] = len(pictures) / bare_session(parts, len(pictures), sizes.batch)
        report["ratio_to_bare_session"] = report["http_per_s"] / report["bare_session_per_s"]
    return report


def latency(url: str, parts: OnnxParts, pictures: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Median milliseconds of one embedding at concurrency 1, over HTTP and in process, in turns."""
    served: list[float] = []
    direct: list[float] = []
    requests = [_request(url, picture, "embedding") for picture in pictures]
    for _ in range(rounds):
        served += [each.seconds for each in _run(closed_loop(url, requests, 1, len(requests)))]
        direct += one_by_one(parts, pictures)
    http_ms, in_process_ms = (1000 * statistics.median(values) for values in (served, direct))
    return {
        "http_ms": http_ms,
        "in_process_ms": in_process_ms,
        "added_ms": http_ms - in_process_ms,
        "http_p99_ms": 1000 * percentile(served, 0.99),
    }


def side_by_side(own: str, other: str, pictures: Sequence[bytes], sizes: Sizes, name: str) -> dict[str, float]:
    """Embeddings a second of two servers, in turns.

    Args:
        own: address of this server.
        other: address of the other one.
        pictures: sent once each a round.
        sizes: clients and rounds.
        name: ``infinity`` speaks its own dialect, any other the OpenAI shape.
    """
    what = "infinity" if name == "infinity" else "embedding"
    requests_per_s(other, pictures[:WARM], sizes.concurrency, what)
    ours, theirs = [], []
    for _ in range(sizes.rounds):
        ours.append(requests_per_s(own, pictures, sizes.concurrency, "embedding"))
        theirs.append(requests_per_s(other, pictures, sizes.concurrency, what))
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
    return {
        "own_per_s": statistics.median(ours),
        "their_per_s": statistics.median(theirs),
        "times": statistics.median(ratios),
    }


def requests_per_s(url: str, pictures: Sequence[bytes], concurrency: int, what: str) -> float:
    """Answered requests a second.

    Raises:
        InvalidInputError: an answer was not 200.
    """
    requests = [_request(url, picture, what) for picture in pictures]
    begin = time.perf_counter()
    samples = _run(closed_loop(url, requests, concurrency, len(requests)))
    seconds = time.perf_counter() - begin
    bad = sorted({each.status for each in samples} - {200})
    if bad:
        raise InvalidInputError(f"The server at {url} answered with {bad}; the bench needs 200 for all.")
    return len(requests) / seconds


def _run(load: Coroutine[Any, Any, list[Sample]]) -> list[Sample]:
    """On the event loop that takes least of the processors, which clients and server share."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(load)
    return uvloop.run(load)


def _request(url: str, picture: bytes, what: str) -> bytes:
    if what == "embedding":
        return build_request(url, "/v1/embeddings", embedding_body(picture), "application/json")
    if what == "infinity":
        return build_request(url, "/embeddings", embedding_body(picture, modality="image"), "application/json")
    path = {"picture": "/v1/embeddings", "caption": "/v1/caption"}[what]
    return build_request(url, path, picture, "image/jpeg")


def _compared(served: list[float], direct: list[float]) -> dict[str, Any]:
    ratios = [one / other for one, other in zip(served, direct, strict=True)]
    middle: Callable[[list[float]], float] = statistics.median
    return {
        "http_per_s": middle(served),
        "in_process_per_s": middle(direct),
        "ratio": middle(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
    }
