"""Reading the processor's features."""

from __future__ import annotations

import json

import pytest

from vlkd_hub import machine


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        (
            "flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_int8",
            ["avx2", "avx512", "bf16", "amx_bf16", "amx_int8"],
        ),
        ("flags : fpu avx2 avx_vnni\n", ["avx2", "vnni"]),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm", ["bf16", "i8mm"]),
        ("flags : fpu avx2xyz", []),
        ("", None),
    ],
)
def test_features(cpuinfo: str, features: list[str] | None) -> None:
    """x86 and ARM spell the line differently; a name must match whole."""
    assert machine.cpu_features(cpuinfo) == features


def test_description_is_json_and_counts_cores() -> None:
    facts = json.loads(json.dumps(machine.describe_machine()))
    assert facts["cores"] >= 1
    assert facts["system"]


def test_a_program_that_fails_or_is_absent_is_none(tmp_path, monkeypatch) -> None:
    """On some systems ``java`` is a stub that exits with an error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.java_version() is None
    stub = tmp_path / "java"
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    assert machine.java_version() is None
    stub.write_text("#!/bin/sh\necho 'openjdk version \"17\"' >&2\n")
    assert machine.java_version() == 'openjdk version "17"'


def test_gpus_come_from_the_driver(tmp_path, monkeypatch) -> None:
    """One line each; a driver that fails shows none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.describe_machine()["gpus"] == []
    stub = tmp_path / "nvidia-smi"
    stub.write_text("#!/bin/sh\necho 'NVIDIA A, 10 MiB'\necho 'NVIDIA B, 20 MiB'\n")
    stub.chmod(0o755)
    assert machine.describe_machine()["gpus"] == ["NVIDIA A, 10 MiB", "NVIDIA B, 20 MiB"]
    stub.write_text("#!/bin/sh\nexit 9\n")
    assert machine.describe_machine()["gpus"] == []
