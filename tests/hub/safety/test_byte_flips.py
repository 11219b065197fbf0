"""Damage at random places of a bundle: always one clear error, never a crash.

300 flips in the default run, 5,000 in ``make nightly`` (``VLKD_FLIPS``), seeded. Twice: as damage, which the hashes
catch; and signed anew, as somebody hostile would, where only the readers stand between the bytes and the process.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import BundleError
from vlkd_hub.runtime import OnnxStudent

FLIPS = int(os.environ.get("VLKD_FLIPS", "300"))
SIGNED = FLIPS // 2
SCRIPT = Path(__file__).with_name("flip_signed.py")


@pytest.fixture(scope="module")
def copy(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flips") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    return folder


def test_every_flip_is_an_error(copy: Path, record_property: Callable[[str, object], None]) -> None:
    """One byte changed, anywhere, the manifest's white space included; the message names the bundle's file."""
    draw = random.Random(0)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    for number in range(FLIPS):
        # Half by size, half file by file: else nine flips in ten would hit the largest graph.
        path = draw.choices(files, weights=sizes if number % 2 else None)[0]
        position, flip = draw.randrange(path.stat().st_size), draw.randrange(1, 256)
        with path.open("r+b") as stream:
            stream.seek(position)
            byte = stream.read(1)[0]
            stream.seek(position)
            stream.write(bytes([byte ^ flip]))
        with pytest.raises(BundleError) as caught:
            OnnxStudent.from_pretrained(copy)
        assert path.name in str(caught.value), (path, position, flip)
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(bytes([byte]))
    assert read_manifest(copy)
    record_property("flips_caught", FLIPS)


def test_signed_flips_never_crash(
    tiny_bundle: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Some change nothing that matters and the bundle answers; every other one is an error of this package."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tiny_bundle), str(tmp_path / "work"), str(SIGNED)],
        capture_output=True,
        text=True,
        timeout=60 + 2 * SIGNED,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"died with {done.returncode} after {lines[-1:]}: {done.stderr[-2000:]}"
    assert len(lines) == SIGNED
    assert [line for line in lines if "unexpected" in line] == []
    record_property("signed_flips", len(lines))
    record_property("signed_flips_refused", sum("error" in line for line in lines))
    assert sum("error" in line for line in lines) > SIGNED // 10
