"""Texts of one length, the same tokens on both sides, or no times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vlkd_export.writing_latency import measure_writing
from vlkd_hub.cli import main
from vlkd_hub.errors import InvalidInputError, ParityError
from vlkd_hub.inference import TorchStudent
from vlkd_hub.runtime import OnnxStudent

PICTURES = [Image.new("RGB", (40, 30), (90 * n, 20, 200)) for n in range(3)]
OPTIONS = {"batch": 2, "new_tokens": 5, "runs": 2, "picture_encoded": True}


@pytest.fixture(scope="module")
def students(tiny_student: Path, tiny_bundle: Path) -> tuple[TorchStudent, OnnxStudent]:
    in_torch = TorchStudent.from_pretrained(tiny_student, picture_cache_bytes=0)
    return in_torch, OnnxStudent.from_pretrained(tiny_bundle, threads=1)


@pytest.mark.parametrize("picture_encoded", [True, False])
def test_the_report(students: tuple[TorchStudent, OnnxStudent], picture_encoded: bool) -> None:
    """Times, their ratio and the load of the machine, for what was asked."""
    report = measure_writing(*students, PICTURES, **OPTIONS | {"picture_encoded": picture_encoded})
    assert report["torch_ms"] > 0 and report["onnx_ms"] > 0 and len(report["load_average"]["before"]) == 3
    assert report["ratio"] == pytest.approx(report["torch_ms"] / report["onnx_ms"], rel=0.02)
    assert (report["batch"], report["new_tokens"], report["runs"]) == (2, 5, 2)


def test_other_tokens_cannot_be_compared(
    students: tuple[TorchStudent, OnnxStudent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faster way to another text is no faster way; nor is a shorter text."""
    in_torch, in_onnx = students
    real = in_onnx.generate_from_states
    monkeypatch.setattr(in_onnx, "generate_from_states", lambda *args: [row[::-1] + [1] for row in real(*args)])
    with pytest.raises(ParityError, match="cannot be compared"):
        measure_writing(in_torch, in_onnx, PICTURES, **OPTIONS)
    for pictures, runs in (([], 2), (PICTURES, 0)):
        with pytest.raises(InvalidInputError, match="at least one run"):
            measure_writing(in_torch, in_onnx, pictures, **OPTIONS | {"runs": runs})


def test_from_the_command_line(
    tiny_student: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each batch size twice: pictures encoded, and end to end."""
    report = tmp_path / "bench.json"
    words = ["bench", "caption", tiny_student, tiny_bundle, "--batch", "1,3", "--new-tokens", 4, "--picture-encoded"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in [*words, "--runs", 2, "--threads", 1, "--json", report]])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert said.count("picture encoded") == said.count("end to end") == 2 and "load average" in said
    found = json.loads(report.read_text())["measured"]
    assert [(item["batch"], item["picture_encoded"]) for item in found] == [
        (1, True),
        (3, True),
        (1, False),
        (3, False),
    ]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in [*words[:4], "--batch", "1,x"]])
    assert ended.value.code == 2 and "whole numbers of 1 or more" in capsys.readouterr().err
