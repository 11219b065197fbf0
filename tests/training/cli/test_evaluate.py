from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlkd_hub.cli import main


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR's start costs seconds."""
    monkeypatch.setattr("vlkd_training.evaluation.tokenizer.has_java", lambda: False)
    monkeypatch.setattr("vlkd_training.evaluation.java_metrics.has_java", lambda: False)


def _run(*args: str) -> int:
    """Exit code of ``vlkd evaluate``."""
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *args])
    return int(stop.value.code or 0)


def _report(model: Path, data: Path, *options: str) -> dict[str, Any]:
    path = data.parent / "out" / "report.json"
    assert _run(str(model), "--data", str(data), "--json", str(path), *options) == 0
    return json.loads(path.read_text())


@pytest.mark.usefixtures("no_java")
def test_torch_and_bundle_give_the_same_report(
    tiny_student: Path, tiny_bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command for both kinds of model; the bundle is the same student, so every measure agrees."""
    torch = _report(tiny_student, data, "--split", "test", "--split", "train", "--num-beams", "1")
    onnx = _report(tiny_bundle, data, "--split", "test", "--split", "train", "--num-beams", "1")
    assert torch["splits"] == onnx["splits"]
    assert list(torch["splits"]) == ["test", "train"]
    assert set(torch["splits"]["test"]) == {"n_images", "retrieval", "caption", "vqa", "skipped"}
    assert torch["parameters"] > 0 and torch["size_bytes"] >= 4 * torch["parameters"]
    assert onnx["parameters"] is None and onnx["size_bytes"] > 0
    shown = capsys.readouterr().out
    assert "Search: test, 3 pictures" in shown and "most frequent answer" in shown and "test, spice: SPICE" in shown


def test_a_student_that_only_embeds(smke_student: Path, smke_bundle: Path, data: Path) -> None:
    """S-SMKE in torch and as a bundle: the same recall both ways."""
    reports = [
        _report(model, data, "--split", "test", "--tasks", "retrieval")["splits"]["test"]["retrieval"]
        for model in (smke_student, smke_bundle)
    ]
    for way in ("text_to_image", "image_to_text"):
        assert reports[0][way] == reports[1][way]
        assert 0 < reports[0][way]["r@5"] <= 1


def test_baseline_needs_the_training_split(tiny_student: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without one the report has no baseline and the screen says why."""
    for path in (data / "train").iterdir():
        path.unlink()
    report = _report(tiny_student, data, "--split", "test", "--tasks", "vqa", "--limit", "2")
    assert report["splits"]["test"]["n_images"] == 2
    assert report["splits"]["test"]["vqa"]["baseline"] is None
    assert "No most-frequent-answer baseline" in capsys.readouterr().out


def test_median_rank_is_asked_for(tiny_bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the report and on the screen."""
    report = _report(tiny_bundle, data, "--split", "test", "--tasks", "retrieval", "--median-rank", "1x3")
    found = report["splits"]["test"]["retrieval"]["average_median_rank"]
    assert found["size"] == 3 and found["chance"] == 2 and 1 <= found["text_to_image"] <= 3
    assert "Average median rank: 1 splits of 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "test", "--median-rank", "5"], "SPLITSxPICTURES"),
        (["--split", "dev"], "no split 'dev'; it has: test, train"),
        (["--split", "test", "--tasks", "speak"], "Unknown task speak"),
        (["--split", "test", "--tasks", "zero-shot"], "has no class labels"),
    ],
)
def test_user_errors_end_with_two_and_a_line(
    tiny_student: Path, data: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback."""
    assert _run(str(tiny_student), "--data", str(data), *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_folder_without_a_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The data's folder given as the model."""
    assert _run(str(data), "--data", str(data), "--split", "test") == 2
    assert "expected config.json (torch) or manifest.json (bundle)" in " ".join(capsys.readouterr().err.split())
