"""The load generator counts right, and the bench runs on a small bundle."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from vlkd_serving.bench_serve.load import build_request, closed_loop, open_loop, percentile
from vlkd_serving.bench_serve.pictures import draw_jpegs


def text_request(url: str) -> bytes:
    return build_request(url, "/v1/embeddings", json.dumps({"input": "red"}).encode(), "application/json")


def test_closed_loop(live_server: Callable[..., str], fake: ModuleType) -> None:
    """Every request is counted once; with k clients about k are under way, so batches form."""
    student = fake.FakeStudent(delay_s=0.02)
    url = live_server(student)
    samples = asyncio.run(closed_loop(url, [text_request(url)], 8, 60))
    assert [each.status for each in samples] == [200] * 60
    assert all(0.02 <= each.seconds < 5 for each in samples) and max(student.batches) >= 4


def test_open_loop_keeps_its_rate(live_server: Callable[..., str], fake: ModuleType) -> None:
    """Slow answers do not slow the questions down: that is what makes an overload."""
    url = live_server(fake.FakeStudent(delay_s=0.2), max_inflight=4)
    samples = asyncio.run(open_loop(url, [text_request(url)], 100, 1.0))
    assert len(samples) == 100 and {each.status for each in samples} == {200, 429}
    assert max(each.sent_s for each in samples) == pytest.approx(0.99, abs=0.5)


def test_a_server_that_is_not_there() -> None:
    """Status 0, not an exception."""
    url = "http://127.0.0.1:9"
    assert [each.status for each in asyncio.run(closed_loop(url, [text_request(url)], 1, 2))] == [0, 0]


def test_percentiles() -> None:
    """Of numbers that one can count."""
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (51, 100, 100)
    assert math.isnan(percentile([], 0.5))


def test_pictures_differ_and_repeat() -> None:
    """Each its own, the same for the same seed, of a photograph's size."""
    first = draw_jpegs(4)
    assert len(set(first)) == 4 and first == draw_jpegs(4) != draw_jpegs(4, seed=1)
    assert all(10_000 < len(each) < 200_000 for each in first)


def test_the_bench_reports_what_it_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    """The whole command on a toy: numbers that fit together; what they are is not the point here."""
    from vlkd_hub.cli import app

    report_path = tmp_path / "report.json"
    options = ["--pictures", "8", "--rounds", "1", "--threads", "1", "--json", str(report_path)]
    result = CliRunner().invoke(app, ["bench", "serve", str(tiny_bundle), *options], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(report_path.read_text())
    for what in ("embedding", "caption"):
        assert report[what]["ratio"] == pytest.approx(report[what]["http_per_s"] / report[what]["in_process_per_s"])
        assert f"{report[what]['ratio']:.2f}" in result.output
    times = report["latency"]
    assert times["added_ms"] == pytest.approx(times["http_ms"] - times["in_process_ms"])
    assert report["start_s"] > 0 and report["ready_mb"] > 20
