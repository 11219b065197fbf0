"""The stopwatch: the same words first, runs in turns, medians; and a real server at the end of a real connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vlkd_export.caption_latency import busy_share, http_captioner, measure, running_server, summary
from vlkd_hub.cli import main
from vlkd_hub.errors import InvalidInputError, ParityError

PICTURES = [Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(2)]


def test_runs_in_turns() -> None:
    """So that a slow minute of the machine falls on all alike."""
    called: list[str] = []

    def captioner(name: str):  # type: ignore[no-untyped-def]
        return lambda picture: called.append(name) or "words"

    times = measure({"torch": captioner("torch"), "onnx": captioner("onnx")}, PICTURES, 5)
    assert [len(values) for values in times.values()] == [5, 5]
    assert called[-10:] == ["torch", "onnx"] * 5


def test_other_words_cannot_be_compared() -> None:
    """A faster way to a different caption is no faster way."""
    with pytest.raises(ParityError, match="'b'.*'a'"):
        measure({"torch": lambda picture: "a", "onnx": lambda picture: "b"}, PICTURES, 5)
    for pictures, runs in (([], 5), (PICTURES, 0)):
        with pytest.raises(InvalidInputError, match="at least one run"):
            measure({"torch": lambda picture: "a"}, pictures, runs)


def test_the_report() -> None:
    """Medians, ratios and the tenths; what was not measured is null, not zero."""
    report = summary({"torch": [30.0, 10.0, 20.0], "onnx": [5.0, 5.0, 50.0]}, threads=2)
    assert (report["torch_ms"], report["onnx_ms"], report["ratio_onnx"]) == (20.0, 5.0, 4.0)
    assert report["http_ms"] is None and report["ratio_http"] is None
    assert report["spread_ms"]["torch"] == [10.0, 30.0] and report["threads"] == 2 and report["runs"] == 3
    assert len(report["load_average"]) == 3


def test_busy_share_sees_work_of_others() -> None:
    """A ratio measured beside other work must not pass for one of a quiet machine."""
    if not Path("/proc/stat").is_file():
        pytest.skip("this system has no /proc/stat")
    worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        share = busy_share()
    finally:
        worker.kill()
        worker.wait()
    assert share is not None and 0.5 / (os.cpu_count() or 1) < share <= 1


def test_bench_through_a_server(
    tiny_student: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All three ways, from the command line; the server is gone afterwards."""
    report = tmp_path / "bench.json"
    words = ["bench", "caption", tiny_student, tiny_bundle, "--http", "--runs", 2, "--threads", 1, "--json", report]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert not ended.value.code
    data = json.loads(report.read_text())
    assert data["http_ms"] > 0 and data["ratio_http"] > 0 and data["ratio_onnx"] > 0
    assert "load average" in capsys.readouterr().out


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    """With what it said."""
    with pytest.raises(InvalidInputError, match="not ready.*manifest.json"), running_server(tmp_path, threads=1):
        raise AssertionError("it started without a bundle")


def test_a_server_that_is_not_there_is_told() -> None:
    """Port 9 answers to nobody here."""
    with pytest.raises(InvalidInputError, match="Is vlkd serve running"):
        with http_captioner("http://127.0.0.1:9") as caption:
            caption(PICTURES[0])
    with pytest.raises(InvalidInputError, match="Expected a URL"), http_captioner("localhost:8000"):
        raise AssertionError("it took a host for a URL")
