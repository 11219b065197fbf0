"""``vlkd export`` and ``vlkd verify`` as a person types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlkd_hub.cli import main

PROGRAM = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "timm"):
            raise ImportError("wall: " + name)
sys.meta_path.insert(0, Wall())
from vlkd_hub.cli import main
main(["verify", sys.argv[1]])
"""


def vlkd(*words: object) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_export_then_verify(
    traced_before: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ordinary way, with both reports."""
    bundle, report = tmp_path / "bundle", tmp_path / "reports" / "export.json"
    assert vlkd("export", tiny_student, "--output", bundle, "--json", report) == 0
    assert "64 texts equal token by token" in capsys.readouterr().out
    data = json.loads(report.read_text())
    assert data["size_bytes"] > 10_000 and data["parity"]["tokens"]["drawn"] and len(data["fingerprint"]) == 64
    report = tmp_path / "verify.json"
    assert vlkd("verify", bundle, "--model", tiny_student, "--json", report) == 0
    said = capsys.readouterr().out
    assert "files as exported" in said and "in torch: 4 graphs, 64 texts" in said
    data = json.loads(report.read_text())
    assert data["certificate"]["texts"] == 64 and len(data["tensors"]) == 4 and len(data["tokens"]) == 4


def test_verify_needs_no_torch(tiny_bundle: Path) -> None:
    """It runs where the bundle runs."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_bundle)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "captions and answers equal to torch's" in done.stdout


def test_a_changed_bundle_fails(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One red line and exit code 2."""
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    with (copy / "golden" / "expected.json").open("a") as file:
        file.write(" ")
    assert vlkd("verify", copy) == 2
    assert "is not the file that was exported" in capsys.readouterr().err


def test_golden_data_that_the_export_never_saw(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to compare it with, and silence would read as a pass."""
    assert vlkd("verify", tiny_bundle, "--golden", tiny_bundle) == 2
    assert "exported without --golden" in capsys.readouterr().err


def test_wrong_options_are_told(tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before torch is loaded."""
    assert vlkd("export", tiny_student, "--output", tmp_path / "bundle", "--opset", 9) == 2
    assert "opset must lie between" in capsys.readouterr().err
