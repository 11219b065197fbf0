"""Requests that no person would send, made from the OpenAPI document: never a 5xx, never a restart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CASES = 200
SEED = 20


def test_no_request_is_a_server_error(
    start_server: Callable[..., Any],
    index_dir: Path,
    tmp_path: Path,
    nightly: bool,
    record_property: Callable[[str, object], None],
) -> None:
    """200 cases an endpoint (10,000 nightly), valid and invalid, from a fixed seed."""
    cases = int(os.environ.get("VLKD_FUZZ_CASES", 10_000 if nightly else CASES))
    server = start_server(index=str(index_dir), writable=True)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{server.url}/openapi.json", "--checks", "not_a_server_error", "--mode", "all"]
    command += ["--max-examples", cases, "--seed", SEED, "--phases", "examples,coverage,fuzzing", "--workers", 2]
    command += ["--suppress-health-check", "all", "--no-color", "--generation-database", "none"]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=8 * 3600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    generated = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    operations = re.search(r"Tested: (\d+)", done.stdout)
    assert generated is not None and operations is not None, done.stdout[-3000:]
    assert generated[1] == generated[2] and int(generated[1]) > 10 * cases
    record_property("operations", operations[1])
    record_property("requests", generated[1])
    assert server.process.poll() is None
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=10) as answer:
        assert answer.status == 200
